//! Rate limits and reservations ([`Guards`](ports::Guards)) on DynamoDB.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use domain::{Timestamp, millis};
use ports::{Decision, Limit, RateLimiter, Reservations, StoreError, Usage};

use crate::dynamo::{Change, Item, Table, Written, key, n, number, s, text, time, time_to_live};

/// The number of parts per window. Uses within one part are counted together, as if all happened at its end.
const PARTS: i64 = 100;

/// The maximum number of tries to count a use while other callers change the same item.
const TRIES: usize = 20;

/// The table of rate limits and reservations.
///
/// All windows of one key are one item. For a window of 60 s, `used60` is the number of uses, `p60_<n>` the number of
/// uses in the n-th part since 1970, and `oldest60` the first counted part. One conditional write adds a use to all
/// windows of the key. The condition fails if a counted part has left its window; then another write first removes
/// the expired parts.
#[derive(Debug, Clone)]
pub struct DynamoGuards {
    table: Table,
}

/// The window of a limit at the current time.
struct Window<'a> {
    limit: &'a Limit,
    /// The length of a part in milliseconds.
    part: i64,
    now: Timestamp,
}

impl<'a> Window<'a> {
    fn new(limit: &'a Limit, now: Timestamp) -> Self {
        Self { limit, part: (millis(limit.window) / PARTS).max(1), now }
    }

    /// Returns the name of an attribute or a value of this window.
    fn name(&self, name: &str) -> String {
        format!("{name}{}", self.limit.window.as_secs())
    }

    fn part_name(&self, part: i64) -> String {
        format!("{}{part}", self.part_prefix())
    }

    fn part_prefix(&self) -> String {
        self.name("p") + "_"
    }

    fn current(&self) -> i64 {
        self.now.as_millis().div_euclid(self.part)
    }

    /// Returns the time at which the uses of a part leave the window.
    fn leaves(&self, part: i64) -> Timestamp {
        Timestamp::from_millis((part + 1) * self.part) + self.limit.window
    }

    /// Returns the first part whose uses are still in the window.
    fn first(&self) -> i64 {
        (self.now - self.limit.window).as_millis().div_euclid(self.part)
    }

    /// Adds a use to the change, on the condition that the window has room and no expired parts.
    fn add(&self, change: Change) -> Change {
        let [used, oldest, max, first, current] = ["used", "oldest", "max", "first", "current"].map(|n| self.name(n));
        change
            .and(&format!("attribute_not_exists(#{used}) OR #{used} < :{max} AND #{oldest} >= :{first}"))
            .value(&max, n(self.limit.max))
            .value(&first, n(self.first()))
            .value(&current, n(self.current()))
            .compute(&oldest, &format!("if_not_exists(#{oldest}, :{current})"))
            .add(&used, 1)
            .add(&self.part_name(self.current()), 1)
    }

    /// Returns the counted parts with their number of uses.
    fn parts(&self, item: &Item) -> Vec<(i64, i64)> {
        let prefix = self.part_prefix();
        let part = |name: &String| name.strip_prefix(&prefix).and_then(|index| index.parse().ok());
        item.keys().filter_map(|name| Some((part(name)?, number(item, name).ok()?))).collect()
    }

    /// Returns the change that removes the parts that have left the window, or `None` if there are none.
    fn clean(&self, item: &Item) -> Option<Change> {
        let (left, kept): (Vec<_>, Vec<_>) = self.parts(item).into_iter().partition(|(part, _)| *part < self.first());
        if left.is_empty() {
            return None;
        }
        let (oldest, used) = (self.name("oldest"), self.name("used"));
        let change = Change::when(&format!("#{oldest} = :oldest"))
            .value("oldest", n(number::<i64>(item, &oldest).unwrap_or_default()));
        let change = left.iter().fold(change, |change, (part, _)| change.set(&self.part_name(*part), None));
        Some(match kept.iter().map(|(part, _)| *part).min() {
            None => change.set(&oldest, None).set(&used, None),
            Some(first) => change.set(&oldest, n(first)).add(&used, -left.iter().map(|(_, uses)| uses).sum::<i64>()),
        })
    }

    fn usage(&self, item: &Item) -> Usage {
        let parts = self.parts(item);
        let live = || parts.iter().filter(|(part, _)| *part >= self.first());
        let used = u32::try_from(live().map(|(_, uses)| uses).sum::<i64>()).unwrap_or_default();
        let retry_after = live().map(|(part, _)| self.leaves(*part).since(self.now)).min().unwrap_or_default();
        Usage { used, retry_after }
    }
}

/// The windows of one key.
struct Group<'a>(Vec<Window<'a>>);

impl Group<'_> {
    fn key(&self) -> Item {
        key("name", format!("window:{}", self.0[0].limit.key))
    }

    fn add(&self) -> Change {
        let last = self.0.iter().map(|window| window.leaves(window.current())).max();
        let change = self.0.iter().fold(Change::default(), |change, window| window.add(change));
        change.set("expires", last.map(time_to_live))
    }

    fn usage(&self, item: &Item) -> Vec<Usage> {
        self.0.iter().map(|window| window.usage(item)).collect()
    }
}

impl DynamoGuards {
    /// Creates a handle of the table with this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }

    /// Counts a use. Returns whether it was allowed, and the usage of each window.
    async fn take_one(&self, group: &Group<'_>) -> Result<(bool, Vec<Usage>), StoreError> {
        for _ in 0..TRIES {
            match self.table.change(group.key(), group.add()).await? {
                Written::Done(item) => return Ok((true, group.usage(&item))),
                Written::Refused(item) => {
                    let item = item.unwrap_or_default();
                    let cleaned: Vec<_> = group.0.iter().filter_map(|window| window.clean(&item)).collect();
                    if cleaned.is_empty() {
                        return Ok((false, group.usage(&item)));
                    }
                    for clean in cleaned {
                        // The result does not matter: another caller may have removed the same parts.
                        self.table.change(group.key(), clean).await?;
                    }
                }
            }
        }
        Err(StoreError::unavailable("DynamoDB", "too many concurrent changes of a rate limit"))
    }

    /// Reverts a counted use after another limit has refused it.
    async fn give_back(&self, group: &Group<'_>) -> Result<Vec<Usage>, StoreError> {
        let mut usage = vec![];
        for window in &group.0 {
            let part = window.part_name(window.current());
            let change = Change::when(&format!("attribute_exists(#{part})"));
            let change = change.add(&window.name("used"), -1).add(&part, -1);
            let (Written::Done(item) | Written::Refused(Some(item))) = self.table.change(group.key(), change).await?
            else {
                return Ok(group.usage(&Item::new()));
            };
            usage = group.usage(&item);
        }
        Ok(usage)
    }
}

#[async_trait]
impl Reservations for DynamoGuards {
    async fn reserve(
        &self,
        name: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        // DynamoDB deletes expired items with a delay, so the condition checks the expiry.
        let change = Change::when("attribute_not_exists(#name) OR #until <= :now").value("now", time(now));
        match self.table.change(key("name", name), stand(change, value, until)).await? {
            Written::Done(_) => Ok(None),
            Written::Refused(item) => text(&item.unwrap_or_default(), "value").map(|value| Some(value.to_owned())),
        }
    }

    async fn replace(&self, name: &str, old: &str, new: &str, until: Timestamp) -> Result<bool, StoreError> {
        let change = Change::when("#value = :old").value("old", s(old));
        Ok(matches!(self.table.change(key("name", name), stand(change, new, until)).await?, Written::Done(_)))
    }

    async fn value(&self, name: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        let Some(item) = self.table.get(key("name", name)).await? else { return Ok(None) };
        let expired = number::<i64>(&item, "until").unwrap_or_default() <= now.as_millis();
        // DynamoDB deletes expired items with a delay.
        if expired { Ok(None) } else { text(&item, "value").map(|value| Some(value.to_owned())) }
    }

    async fn release(&self, name: &str) -> Result<(), StoreError> {
        self.table.delete(key("name", name), Change::default()).await.map(drop)
    }
}

#[async_trait]
impl RateLimiter for DynamoGuards {
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError> {
        let mut groups: Vec<Group<'_>> = vec![];
        // The position of each limit's window: the index of its group and its index in the group.
        let mut places = vec![];
        for limit in limits {
            let known = groups.iter().position(|group| group.0[0].limit.key == limit.key);
            let group = known.unwrap_or(groups.len());
            if known.is_none() {
                groups.push(Group(vec![]));
            }
            groups[group].0.push(Window::new(limit, now));
            places.push((group, groups[group].0.len() - 1));
        }
        let results = futures::future::try_join_all(groups.iter().map(|group| self.take_one(group))).await?;
        let allowed = results.iter().all(|(allowed, _)| *allowed);
        let mut usage = vec![];
        for (group, (taken, now_used)) in groups.iter().zip(results) {
            usage.push(if taken && !allowed { self.give_back(group).await? } else { now_used });
        }
        Ok(Decision { allowed, usage: places.into_iter().map(|(group, window)| usage[group][window]).collect() })
    }
}

/// Adds the value and the expiry of a reservation to the change.
fn stand(change: Change, value: &str, until: Timestamp) -> Change {
    change.set("value", s(value)).set("until", time(until)).set("expires", time_to_live(until))
}
