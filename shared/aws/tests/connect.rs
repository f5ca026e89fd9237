//! Connections that are opened in advance, while a function starts.

extern crate proxytorrent_aws as aws;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::{Clients, DynamoRequests};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::Credentials;
use domain::RequestId;
use ports::Requests;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The heads of the received HTTP requests, each with the number of its connection.
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// Responds to every HTTP request with an empty JSON object.
async fn serve(stream: TcpStream, connection: usize, seen: Seen) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or_default() == 0 {
                return;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        seen.lock().unwrap().push((connection, head));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    }
}

async fn service() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let all = seen.clone();
    tokio::spawn(async move {
        for connection in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(stream, connection, all.clone()));
        }
    });
    (url, seen)
}

async fn clients(endpoint: String) -> Clients {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(endpoint)
        .http_client(aws::http_client());
    Clients::new(config.load().await)
}

#[tokio::test]
async fn the_first_call_uses_the_connection_opened_in_advance() {
    let (url, seen) = service().await;
    let clients = clients(url).await;
    clients.connect_dynamodb().await;
    let requests = DynamoRequests::new(clients.dynamodb(), "requests");
    assert_eq!(requests.get(RequestId::new()).await.unwrap(), None);
    let seen = seen.lock().unwrap();
    let [(0, first), (0, second)] = &seen[..] else { panic!("{seen:#?}") };
    assert!(second.contains("x-amz-target: dynamodb_20120810.getitem"), "{second}");
    assert!(first.starts_with("get / http/1.1"), "{first}");
}

#[tokio::test]
async fn connecting_in_advance_sends_no_credentials() {
    let (url, seen) = service().await;
    let clients = clients(url).await;
    clients.connect_dynamodb().await;
    clients.connect_s3("bucket").await;
    clients.connect_sqs().await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for (_, head) in seen.iter() {
        assert!(
            head.starts_with("get / http/1.1") && !head.contains("authorization") && !head.contains("x-amz"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn startup_continues_when_the_service_does_not_respond() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clients = clients(format!("http://{}", silent.local_addr().unwrap())).await;
    // Much shorter than the SDK's own timeout.
    let connecting = tokio::time::timeout(Duration::from_secs(20), clients.connect_sqs());
    connecting.await.expect("connecting gives up before the timeout");
}
