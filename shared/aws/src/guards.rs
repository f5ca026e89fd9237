//! [`Guards`] on DynamoDB.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use domain::Timestamp;
use ports::{Guards, Limit, StoreError, Taken, Usage};

use crate::dynamo::{Change, Item, Table, Written, key, n, number, s, text, time, time_to_live};

/// Uses within a hundredth of the window are counted together, as if all came at the end of it.
const PARTS: i64 = 100;

/// Tries to count a use while others count theirs.
const TRIES: usize = 20;

/// The table of guards.
///
/// A window is an item of its own: `used` counts the uses in it, `p<n>` those in its n-th part since 1970, and
/// `oldest` is the first part that is counted. One conditional write adds a use, if no part has left the window that is
/// still counted; else another write takes those out first.
#[derive(Debug, Clone)]
pub struct DynamoGuards {
    table: Table,
}

/// A limit's window as it is now.
struct Window<'a> {
    limit: &'a Limit,
    /// Milliseconds.
    part: i64,
    now: Timestamp,
}

impl<'a> Window<'a> {
    fn new(limit: &'a Limit, now: Timestamp) -> Self {
        Self { limit, part: (limit.window.as_millis() as i64 / PARTS).max(1), now }
    }

    fn key(&self) -> Item {
        key("name", format!("window:{}:{}", self.limit.window.as_secs(), self.limit.key))
    }

    fn current(&self) -> i64 {
        self.now.as_millis().div_euclid(self.part)
    }

    /// When the uses of a part leave the window.
    fn leaves(&self, part: i64) -> Timestamp {
        Timestamp::from_millis((part + 1) * self.part) + self.limit.window
    }

    /// The first part whose uses are in the window still.
    fn first(&self) -> i64 {
        (self.now - self.limit.window).as_millis().div_euclid(self.part)
    }

    fn add(&self) -> Change {
        let condition = "attribute_not_exists(#used) OR #used < :max AND #oldest >= :first";
        Change::when(condition)
            .value("max", n(self.limit.max))
            .value("first", n(self.first()))
            .value("current", n(self.current()))
            .compute("oldest", "if_not_exists(#oldest, :current)")
            .set("expires", time_to_live(self.leaves(self.current())))
            .add("used", 1)
            .add(&format!("p{}", self.current()), 1)
    }

    /// The parts that are counted, with their uses.
    fn parts(item: &Item) -> impl Iterator<Item = (i64, i64)> {
        let part = |name: &String| name.strip_prefix('p').and_then(|index| index.parse().ok());
        item.keys().filter_map(move |name| Some((part(name)?, number(item, name).ok()?)))
    }

    /// Takes the parts out that have left the window, if there are any.
    fn clean(&self, item: &Item) -> Option<Change> {
        let (left, kept): (Vec<_>, Vec<_>) = Self::parts(item).partition(|(part, _)| *part < self.first());
        if left.is_empty() {
            return None;
        }
        let change =
            Change::when("#oldest = :oldest").value("oldest", n(number::<i64>(item, "oldest").unwrap_or_default()));
        let change = left.iter().fold(change, |change, (part, _)| change.set(&format!("p{part}"), None));
        Some(match kept.iter().map(|(part, _)| *part).min() {
            None => change.set("oldest", None).set("used", None),
            Some(oldest) => {
                change.set("oldest", n(oldest)).add("used", -left.iter().map(|(_, uses)| uses).sum::<i64>())
            }
        })
    }

    fn usage(&self, item: &Item) -> Usage {
        let live = || Self::parts(item).filter(|(part, _)| *part >= self.first());
        let used = live().map(|(_, uses)| uses).sum::<i64>() as u32;
        let frees_in = live().map(|(part, _)| self.leaves(part).since(self.now)).min().unwrap_or_default();
        Usage { used, frees_in }
    }
}

impl DynamoGuards {
    /// The table of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }

    /// Counts a use; whether it was allowed, and how the window stands.
    async fn take_one(&self, window: &Window<'_>) -> Result<(bool, Usage), StoreError> {
        for _ in 0..TRIES {
            match self.table.change(window.key(), window.add()).await? {
                Written::Done(item) => return Ok((true, window.usage(&item))),
                Written::Refused(item) => {
                    let item = item.unwrap_or_default();
                    match window.clean(&item) {
                        None => return Ok((false, window.usage(&item))),
                        // Whoever is first has done it for all.
                        Some(clean) => drop(self.table.change(window.key(), clean).await?),
                    }
                }
            }
        }
        Err(StoreError::unavailable("DynamoDB", "a window changes all the time"))
    }

    /// Takes a use back that another limit has refused.
    async fn give_back(&self, window: &Window<'_>) -> Result<Usage, StoreError> {
        let part = format!("p{}", window.current());
        let change = Change::when(&format!("attribute_exists(#{part})")).add("used", -1).add(&part, -1);
        match self.table.change(window.key(), change).await? {
            Written::Done(item) => Ok(window.usage(&item)),
            Written::Refused(item) => Ok(window.usage(&item.unwrap_or_default())),
        }
    }
}

#[async_trait]
impl Guards for DynamoGuards {
    async fn take(&self, limits: &[Limit], now: Timestamp) -> Result<Taken, StoreError> {
        let windows: Vec<_> = limits.iter().map(|limit| Window::new(limit, now)).collect();
        let results = futures::future::try_join_all(windows.iter().map(|window| self.take_one(window))).await?;
        let allowed = results.iter().all(|(allowed, _)| *allowed);
        let mut usage = vec![];
        for (window, (taken, now_used)) in windows.iter().zip(results) {
            usage.push(if taken && !allowed { self.give_back(window).await? } else { now_used });
        }
        Ok(Taken { allowed, usage })
    }

    async fn reserve(
        &self,
        name: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        // DynamoDB deletes what has run out when it finds the time.
        let change = Change::when("attribute_not_exists(#name) OR #until <= :now").value("now", time(now));
        match self.table.change(key("name", name), stand(change, value, until)).await? {
            Written::Done(_) => Ok(None),
            Written::Refused(item) => text(&item.unwrap_or_default(), "value").map(|value| Some(value.to_owned())),
        }
    }

    async fn put(&self, name: &str, value: &str, until: Timestamp) -> Result<(), StoreError> {
        self.table.change(key("name", name), stand(Change::default(), value, until)).await.map(drop)
    }

    async fn release(&self, name: &str) -> Result<(), StoreError> {
        self.table.delete(key("name", name), Change::default()).await.map(drop)
    }
}

fn stand(change: Change, value: &str, until: Timestamp) -> Change {
    change.set("value", s(value)).set("until", time(until)).set("expires", time_to_live(until))
}
