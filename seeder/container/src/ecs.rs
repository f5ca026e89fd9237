//! The addresses of the Amazon ECS task that the seeder runs in.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use reqwest::Client;
use serde::Deserialize;
use url::Url;

/// The timeout of a call.
const ANSWER: Duration = Duration::from_secs(10);

/// The part of the response of the metadata endpoint that is used ("Amazon ECS container metadata, version 4").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    networks: Vec<Network>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "IPv4Addresses", default)]
    ipv4: Vec<Ipv4Addr>,
    #[serde(rename = "IPv6Addresses", default)]
    ipv6: Vec<Ipv6Addr>,
    /// Present in the network mode `awsvpc`.
    #[serde(rename = "MACAddress")]
    mac: Option<String>,
}

/// Where the EC2 API is, and who calls it.
#[derive(Debug)]
pub(crate) struct Ec2 {
    pub endpoint: Url,
    pub region: String,
    pub credentials: Credentials,
}

/// Returns the addresses at which peers reach this task, from its metadata endpoint: the IPv6 addresses, and of each IPv4
/// address the public one that the network interface has for it, or itself if there is none.
pub(crate) async fn addresses(metadata: &Url, ec2: &Ec2) -> Result<Vec<IpAddr>, Box<dyn Error>> {
    // Both services belong to AWS and are called directly, whatever proxies the environment names.
    let http = Client::builder().no_proxy().timeout(ANSWER).build()?;
    let response = http.get(metadata.clone()).send().await?.error_for_status()?;
    let container: Container = serde_json::from_slice(&response.bytes().await?)?;
    let mut addresses = vec![];
    for network in container.networks {
        for private in network.ipv4 {
            let public = match &network.mac {
                Some(mac) => ec2.public_address(&http, private, mac).await?,
                None => None,
            };
            addresses.push(IpAddr::V4(public.unwrap_or(private)));
        }
        addresses.extend(network.ipv6.into_iter().map(IpAddr::V6));
    }
    if addresses.is_empty() { Err("the task has no address".into()) } else { Ok(addresses) }
}

impl Ec2 {
    /// Returns the public address that belongs to a private one of the network interface with this MAC address.
    async fn public_address(
        &self,
        http: &Client,
        private: Ipv4Addr,
        mac: &str,
    ) -> Result<Option<Ipv4Addr>, Box<dyn Error>> {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut().extend_pairs([
            ("Action", "DescribeNetworkInterfaces"),
            ("Version", "2016-11-15"),
            ("Filter.1.Name", "addresses.private-ip-address"),
            ("Filter.1.Value.1", &private.to_string()),
            ("Filter.2.Name", "mac-address"),
            ("Filter.2.Value.1", mac),
        ]);
        let identity = self.credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (signature, _) = sign(request, &parameters)?.into_parts();
        let mut request = http::Request::get(url.as_str()).body(reqwest::Body::default())?;
        signature.apply_to_request_http1x(&mut request);
        let response = http.execute(request.try_into()?).await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            let code = between(&text, "<Code>", "</Code>").unwrap_or("no code");
            return Err(format!("ec2:DescribeNetworkInterfaces failed with {status} ({code})").into());
        }
        // An IP address has no character that XML escapes.
        Ok(between(&text, "<publicIp>", "</publicIp>").map(str::parse).transpose()?)
    }
}

/// Returns the text between the first `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::RawQuery;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;

    use super::*;

    const METADATA: &str = r#"{"DockerId": "a", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"],
        "IPv6Addresses": ["2001:db8::7"], "AttachmentIndex": 0, "MACAddress": "0a:de:f6:10:51:e5"}]}"#;

    /// Serves this metadata, and this response of the EC2 API. AWS itself cannot run here.
    async fn found(metadata: &'static str, status: u16, ec2: &'static str) -> Result<Vec<IpAddr>, String> {
        let describe = async move |RawQuery(query): RawQuery, headers: HeaderMap| {
            let query = query.unwrap();
            for part in ["Action=DescribeNetworkInterfaces", "=10.0.2.61", "=0a%3Ade%3Af6%3A10%3A51%3Ae5"] {
                assert!(query.contains(part), "{query}");
            }
            let authorization = headers["authorization"].to_str().unwrap();
            assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=key/"), "{authorization}");
            assert!(authorization.contains("/eu-west-1/ec2/aws4_request"), "{authorization}");
            assert_eq!(headers["x-amz-security-token"], "token");
            (StatusCode::from_u16(status).unwrap(), ec2)
        };
        let router = Router::new().route("/v4/id", get(async move || metadata)).route("/", get(describe));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let credentials = Credentials::new("key", "secret", Some("token".into()), None, "test");
        let ec2 = Ec2 { endpoint: base.clone(), region: "eu-west-1".into(), credentials };
        let found = addresses(&base.join("v4/id").unwrap(), &ec2).await.map_err(|error| error.to_string());
        server.abort();
        found
    }

    #[tokio::test]
    async fn a_task_has_the_public_address_of_its_network_interface() {
        let response = "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><association>\
                        <publicIp>198.51.100.7</publicIp></association></item></networkInterfaceSet>\
                        </DescribeNetworkInterfacesResponse>";
        let addresses = found(METADATA, 200, response).await.unwrap();
        assert_eq!(addresses, ["198.51.100.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_task_without_a_public_address_has_its_private_one() {
        let response = "<DescribeNetworkInterfacesResponse><networkInterfaceSet/></DescribeNetworkInterfacesResponse>";
        let addresses = found(METADATA, 200, response).await.unwrap();
        assert_eq!(addresses, ["10.0.2.61".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_found_is_an_error_with_its_cause() {
        let denied = "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";
        let error = found(METADATA, 403, denied).await.unwrap_err();
        assert!(error.contains("ec2:DescribeNetworkInterfaces") && error.contains("UnauthorizedOperation"), "{error}");
        assert_eq!(found(r#"{"Networks": []}"#, 200, "").await.unwrap_err(), "the task has no address");
    }
}
