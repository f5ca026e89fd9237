//! The health check of the container.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Client;

/// The timeout of the call.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the seeder at `SEEDER__HTTP` for its health, and prints it. Returns an error if it is unhealthy.
pub(crate) async fn check(http: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let mut address = http.ok_or("SEEDER__HTTP must be set for a health check")?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let client = Client::builder().no_proxy().timeout(ANSWER).build()?;
    let response = client.get(format!("http://{address}/health")).send().await?;
    let status = response.status();
    println!("{}", response.text().await?);
    if status.is_success() { Ok(()) } else { Err(format!("the seeder is unhealthy: status {status}").into()) }
}
