//! DynamoDB tables: items, conditional writes and queries.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::Timestamp;
use ports::StoreError;

/// The attributes of one item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Returns a string attribute.
pub(crate) fn s(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// Returns a number attribute.
pub(crate) fn n(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Returns a number attribute of a time in milliseconds since the Unix epoch.
pub(crate) fn time(value: Timestamp) -> AttributeValue {
    n(value.as_millis())
}

/// Returns the time-to-live attribute of an item in seconds since the Unix epoch. It is later than `until`, so that
/// DynamoDB never deletes an item before it expires.
pub(crate) fn time_to_live(until: Timestamp) -> AttributeValue {
    n(until.as_millis().div_euclid(1000) + 1)
}

/// Converts the error of a failed DynamoDB call.
pub(crate) fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // The text of the SDK error itself ("service error") is useless, so the code and message of the service are used.
    match error.code().map(|code| format!("{code}: {}", error.message().unwrap_or_default())) {
        Some(text) => StoreError::unavailable("DynamoDB", text),
        None => StoreError::unavailable("DynamoDB", aws_sdk_dynamodb::error::DisplayErrorContext(error).to_string()),
    }
}

fn unreadable(name: &str) -> StoreError {
    StoreError::unavailable("DynamoDB", format!("the attribute {name} of an item cannot be read"))
}

/// Returns the text of a string attribute.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, StoreError> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| unreadable(name))
}

/// Parses the text of a string attribute.
pub(crate) fn parsed<T: FromStr>(item: &Item, name: &str) -> Result<T, StoreError> {
    text(item, name)?.parse().map_err(|_| unreadable(name))
}

/// Parses a number attribute.
pub(crate) fn number<T: FromStr>(item: &Item, name: &str) -> Result<T, StoreError> {
    let value = item.get(name).and_then(|value| value.as_n().ok());
    value.and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(name))
}

/// Reads an attribute with `read`, or returns `None` if the item does not have it.
pub(crate) fn optional<T>(
    item: &Item,
    name: &str,
    read: impl FnOnce(&Item, &str) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    if item.contains_key(name) { read(item, name).map(Some) } else { Ok(None) }
}

/// Reads an attribute with a time in milliseconds.
pub(crate) fn timestamp(item: &Item, name: &str) -> Result<Timestamp, StoreError> {
    number(item, name).map(Timestamp::from_millis)
}

/// The attribute with the id of the last write. The SDK retries a call whose response was lost. If the condition then
/// fails, but the item has the id of this call, the first try succeeded.
const WRITTEN_BY: &str = "written_by";

/// The result of a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The write succeeded. Contains the item after it.
    Done(Item),
    /// The condition failed. Contains the current item, if it exists.
    Refused(Option<Item>),
}

/// A conditional update of one item: attributes to set, remove or add to.
#[derive(Debug, Default)]
pub(crate) struct Change {
    set: Vec<String>,
    remove: Vec<String>,
    add: Vec<String>,
    condition: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Change {
    /// Creates a change that is only written if `condition` is met. In the condition, `#name` is the attribute
    /// `name`.
    pub fn when(condition: &str) -> Self {
        Self::default().and(condition)
    }

    /// Adds a condition. All conditions must be met.
    pub fn and(mut self, condition: &str) -> Self {
        for word in condition.split(|c: char| !(c.is_ascii_alphanumeric() || "#_".contains(c))) {
            if let Some(name) = word.strip_prefix('#') {
                self.name(name);
            }
        }
        self.condition = Some(match self.condition {
            None => format!("({condition})"),
            Some(earlier) => format!("{earlier} AND ({condition})"),
        });
        self
    }

    fn name(&mut self, name: &str) {
        self.names.insert(format!("#{name}"), name.to_owned());
    }

    /// Defines the value of `:name` in conditions and expressions.
    pub fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(format!(":{name}"), value);
        self
    }

    /// Sets an attribute. `None` removes it.
    pub fn set(mut self, name: &str, value: impl Into<Option<AttributeValue>>) -> Self {
        self.name(name);
        match value.into() {
            Some(value) => {
                self.set.push(format!("#{name} = :set_{name}"));
                self.values.insert(format!(":set_{name}"), value);
            }
            None => self.remove.push(format!("#{name}")),
        }
        self
    }

    /// Sets several attributes, like [`Change::set`].
    pub fn set_all(self, attributes: impl IntoIterator<Item = (&'static str, Option<AttributeValue>)>) -> Self {
        attributes.into_iter().fold(self, |change, (name, value)| change.set(name, value))
    }

    /// Sets an attribute to the value of an expression, such as `#a + :b`.
    pub fn compute(mut self, name: &str, expression: &str) -> Self {
        for word in expression.split(|c: char| !(c.is_ascii_alphanumeric() || "#_".contains(c))) {
            if let Some(name) = word.strip_prefix('#') {
                self.name(name);
            }
        }
        self.name(name);
        self.set.push(format!("#{name} = {expression}"));
        self
    }

    /// Adds to a number. A missing number counts as 0.
    pub fn add(mut self, name: &str, amount: i64) -> Self {
        self.name(name);
        self.add.push(format!("#{name} :add_{name}"));
        self.values.insert(format!(":add_{name}"), n(amount));
        self
    }

    /// Adds an element to a set of strings. A missing set counts as empty.
    pub fn insert(mut self, name: &str, value: impl ToString) -> Self {
        self.name(name);
        self.add.push(format!("#{name} :add_{name}"));
        self.values.insert(format!(":add_{name}"), AttributeValue::Ss(vec![value.to_string()]));
        self
    }

    fn expression(&self) -> String {
        let clauses = [("SET", &self.set), ("REMOVE", &self.remove), ("ADD", &self.add)];
        let clauses = clauses.iter().filter(|(_, parts)| !parts.is_empty());
        clauses.map(|(word, parts)| format!("{word} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
    }
}

/// A table with one or two key attributes.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub client: Client,
    pub name: String,
}

impl Table {
    /// Updates the item with this key. Creates it if it does not exist and the condition allows that.
    pub async fn change(&self, key: Item, change: Change) -> Result<Written, StoreError> {
        let call = s(format!("{:016x}", rand::random::<u64>()));
        let change = change.set(WRITTEN_BY, call.clone());
        let result = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .update_expression(change.expression())
            .set_condition_expression(change.condition)
            .set_expression_attribute_names(Some(change.names))
            .set_expression_attribute_values(Some(change.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Written::Done(output.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(service) if service.is_conditional_check_failed_exception() => {
                    let item = match error.into_service_error() {
                        aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(
                            failed,
                        ) => failed.item,
                        _ => None,
                    };
                    match item {
                        Some(item) if item.get(WRITTEN_BY) == Some(&call) => Ok(Written::Done(item)),
                        item => Ok(Written::Refused(item)),
                    }
                }
                _ => Err(unavailable(error)),
            },
        }
    }

    /// Returns the item with this key, or `None` if it does not exist. The read is strongly consistent.
    pub async fn get(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(&self.name).set_key(Some(key)).consistent_read(true);
        Ok(get.send().await.map_err(unavailable)?.item)
    }

    /// Deletes the item with this key if it meets the condition. Returns whether the condition was met.
    pub async fn delete(&self, key: Item, condition: Change) -> Result<bool, StoreError> {
        let result = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .set_condition_expression(condition.condition)
            .set_expression_attribute_names(Some(condition.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(condition.values).filter(|values| !values.is_empty()))
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(service) if service.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(unavailable(error)),
            },
        }
    }

    /// Returns one page of the query results in the order of the sort key, and the start key of the next page.
    pub async fn query(&self, query: Query) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(query.index.map(str::to_owned))
            .key_condition_expression(query.condition)
            .set_expression_attribute_names(Some(query.names))
            .set_expression_attribute_values(Some(query.values))
            .set_limit(query.limit.map(|limit| limit.min(1000).cast_signed()))
            .set_scan_index_forward(Some(!query.descending))
            .set_exclusive_start_key(query.after)
            .send()
            .await
            .map_err(unavailable)?;
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }

    /// Returns all items of the query, page by page, until its limit is reached.
    pub async fn query_all(&self, query: Query) -> Result<Vec<Item>, StoreError> {
        let mut found = vec![];
        let mut query = query;
        loop {
            let (items, next) = self.query(query.clone()).await?;
            found.extend(items);
            if next.is_none() || query.limit.is_some_and(|limit| found.len() >= limit as usize) {
                return Ok(found);
            }
            query.after = next;
        }
    }
}

/// A query of an index or a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    index: Option<&'static str>,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    limit: Option<u32>,
    descending: bool,
    after: Option<Item>,
}

impl Query {
    /// Creates a query of the items whose partition key `name` is `value`.
    pub fn of(name: &str, value: AttributeValue) -> Self {
        let (names, values) = ([("#key".into(), name.into())].into(), [(":key".into(), value)].into());
        Self { condition: "#key = :key".into(), names, values, ..Self::default() }
    }

    /// Queries this index instead of the table.
    pub fn index(self, index: &'static str) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Adds a comparison of the sort key `name` with `value`.
    pub fn and(mut self, name: &str, operator: &str, value: AttributeValue) -> Self {
        self.condition = format!("{} AND #sort {operator} :sort", self.condition);
        self.names.insert("#sort".into(), name.into());
        self.values.insert(":sort".into(), value);
        self
    }

    /// Sets the maximum number of items.
    pub fn limit(self, limit: u32) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Starts behind the last key of a page; `None` starts at the beginning.
    pub fn starting_after(self, after: Option<Item>) -> Self {
        Self { after, ..self }
    }

    /// Reverses the order.
    pub fn descending(self) -> Self {
        Self { descending: true, ..self }
    }
}

/// Returns the key of an item with one key attribute.
pub(crate) fn key(name: &str, value: impl ToString) -> Item {
    Item::from([(name.to_owned(), s(value))])
}
