//! Items of DynamoDB, and conditional writes to them.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::Timestamp;
use ports::StoreError;

/// The attributes of one item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(crate) fn s(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// A number attribute.
pub(crate) fn n(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A time, in milliseconds.
pub(crate) fn time(value: Timestamp) -> AttributeValue {
    n(value.as_millis())
}

/// When DynamoDB may delete an item: seconds, and after it has run out for us.
pub(crate) fn time_to_live(until: Timestamp) -> AttributeValue {
    n(until.as_millis().div_euclid(1000) + 1)
}

/// A call that DynamoDB did not answer as it should.
pub(crate) fn unavailable<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // What the SDK says of itself ("service error") tells nobody anything.
    match error.code().map(|code| format!("{code}: {}", error.message().unwrap_or_default())) {
        Some(text) => StoreError::unavailable("DynamoDB", text),
        None => StoreError::unavailable("DynamoDB", aws_sdk_dynamodb::error::DisplayErrorContext(error).to_string()),
    }
}

fn unreadable(name: &str) -> StoreError {
    StoreError::unavailable("DynamoDB", format!("the attribute {name} of an item cannot be read"))
}

/// The text of an attribute.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, StoreError> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or_else(|| unreadable(name))
}

/// An attribute that holds a value's text.
pub(crate) fn parsed<T: FromStr>(item: &Item, name: &str) -> Result<T, StoreError> {
    text(item, name)?.parse().map_err(|_| unreadable(name))
}

/// An attribute that holds a number.
pub(crate) fn number<T: FromStr>(item: &Item, name: &str) -> Result<T, StoreError> {
    let value = item.get(name).and_then(|value| value.as_n().ok());
    value.and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(name))
}

/// What `read` finds in an attribute, if it is there.
pub(crate) fn optional<T>(
    item: &Item,
    name: &str,
    read: impl FnOnce(&Item, &str) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    if item.contains_key(name) { read(item, name).map(Some) } else { Ok(None) }
}

/// An attribute that holds a time.
pub(crate) fn timestamp(item: &Item, name: &str) -> Result<Timestamp, StoreError> {
    number(item, name).map(Timestamp::from_millis)
}

/// Which call wrote an item last. The SDK sends a call again whose answer was lost: a condition that then fails
/// has been met before, if the item bears the mark of this very call.
const WRITTEN_BY: &str = "written_by";

/// What became of a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// The item as it is now.
    Done(Item),
    /// The item as it is, if there is one: it does not meet the condition.
    Refused(Option<Item>),
}

/// A change of one item: attributes that are set, removed or added to, on a condition.
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
    /// Nothing, unless `condition` is met. In it `#name` is the attribute of this name.
    pub fn when(condition: &str) -> Self {
        Self::default().and(condition)
    }

    /// A further condition.
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

    /// What `:name` stands for in conditions and expressions.
    pub fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(format!(":{name}"), value);
        self
    }

    /// Sets an attribute, or removes it.
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

    /// Sets several, as [`Change::set`] does.
    pub fn set_all(self, attributes: impl IntoIterator<Item = (&'static str, Option<AttributeValue>)>) -> Self {
        attributes.into_iter().fold(self, |change, (name, value)| change.set(name, value))
    }

    /// Sets an attribute to an expression, as `#a + :b`.
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

    /// Adds to a number, which begins at 0.
    pub fn add(mut self, name: &str, amount: i64) -> Self {
        self.name(name);
        self.add.push(format!("#{name} :add_{name}"));
        self.values.insert(format!(":add_{name}"), n(amount));
        self
    }

    /// Adds to a set of strings, which begins empty.
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

/// A table whose items have one key attribute, or two.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub client: Client,
    pub name: String,
}

impl Table {
    /// Changes the item with this key, which is made if there is none and the condition allows it.
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

    /// The item with this key, as the last write left it.
    pub async fn get(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let get = self.client.get_item().table_name(&self.name).set_key(Some(key)).consistent_read(true);
        Ok(get.send().await.map_err(unavailable)?.item)
    }

    /// Deletes the item with this key, if it meets the condition; whether it is gone now.
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

    /// One page of an index, or of the table, in the order of the sort key.
    pub async fn query(&self, query: Query) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(query.index.map(str::to_owned))
            .key_condition_expression(query.condition)
            .set_expression_attribute_names(Some(query.names))
            .set_expression_attribute_values(Some(query.values))
            .set_limit(query.limit.map(|limit| limit.min(1000) as i32))
            .set_scan_index_forward(Some(!query.descending))
            .set_exclusive_start_key(query.after)
            .send()
            .await
            .map_err(unavailable)?;
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }

    /// Every item that the query finds, page by page, up to its limit.
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

/// A question to an index or a table.
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
    /// The items whose attribute `name` is `value`.
    pub fn of(name: &str, value: AttributeValue) -> Self {
        let (names, values) = ([("#key".into(), name.into())].into(), [(":key".into(), value)].into());
        Self { condition: "#key = :key".into(), names, values, ..Self::default() }
    }

    /// In this index.
    pub fn index(self, index: &'static str) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Whose sort key compares so with `value`.
    pub fn and(mut self, name: &str, operator: &str, value: AttributeValue) -> Self {
        self.condition = format!("{} AND #sort {operator} :sort", self.condition);
        self.names.insert("#sort".into(), name.into());
        self.values.insert(":sort".into(), value);
        self
    }

    /// No more than these.
    pub fn limit(self, limit: u32) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The last first.
    pub fn descending(self) -> Self {
        Self { descending: true, ..self }
    }
}

/// The key of an item with one key attribute.
pub(crate) fn key(name: &str, value: impl ToString) -> Item {
    Item::from([(name.to_owned(), s(value))])
}
