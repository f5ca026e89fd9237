//! Fault injection: an HTTP client for the AWS SDK that records the calls of a simulated process and makes them fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use tokio_util::sync::CancellationToken;

/// The fault to inject into the calls of a plan. Calls are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The process is killed after this call is executed, before it receives the response.
    Killed(usize),
    /// Calls are refused with AWS's throttling errors: the first refused call, and how many in all.
    Refused(usize, usize),
    /// This call is executed, but its response is lost.
    Lost(usize),
}

/// A call to AWS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The IAM action, such as `dynamodb:UpdateItem`.
    pub action: String,
    /// The table (with its index, if one is used), the key of the object, or the queue.
    pub resource: String,
    /// The body, if the service uses JSON; otherwise empty.
    pub body: String,
}

/// The fault and the recorded calls of one request, over all processes that work on it.
#[derive(Debug)]
pub struct FaultPlan {
    fault: Fault,
    count: AtomicUsize,
    pub calls: Mutex<Vec<Call>>,
}

impl FaultPlan {
    pub fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, count: AtomicUsize::new(0), calls: Mutex::default() })
    }

    /// Removes and returns the calls recorded so far.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// The HTTP client of one simulated process.
#[derive(Debug, Clone)]
pub struct FaultyTransport {
    inner: SharedHttpClient,
    plan: Arc<FaultPlan>,
    dead: Arc<AtomicBool>,
    /// Cancelled when the process is killed.
    pub killed: CancellationToken,
    /// Cancelled when the killed process no longer runs any code.
    pub buried: CancellationToken,
}

impl FaultyTransport {
    pub fn new(plan: &Arc<FaultPlan>) -> Self {
        Self {
            inner: aws::http_client(),
            plan: plan.clone(),
            dead: Arc::default(),
            killed: CancellationToken::new(),
            buried: CancellationToken::new(),
        }
    }

    pub fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// Waits until the killed process no longer runs, so that the process never sees the end of the call.
    async fn hang(&self) -> ConnectorError {
        self.buried.cancelled().await;
        ConnectorError::user("the process is dead".into())
    }
}

impl HttpClient for FaultyTransport {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Connector { inner, transport: self.clone() })
    }
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    transport: FaultyTransport,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (transport, inner) = (self.transport.clone(), self.inner.clone());
        HttpConnectorFuture::new(async move {
            if transport.dead.load(Ordering::SeqCst) {
                return Err(transport.hang().await);
            }
            let call = Call::of(&request);
            let refusal = refusal(&call.action);
            transport.plan.calls.lock().unwrap().push(call);
            let number = transport.plan.count.fetch_add(1, Ordering::SeqCst) + 1;
            match transport.plan.fault {
                Fault::Refused(first, times) if (first..first + times).contains(&number) => Ok(refusal),
                Fault::Lost(nth) if number == nth => {
                    inner.call(request).await?;
                    Err(ConnectorError::io("the connection was reset".into()))
                }
                Fault::Killed(nth) if number == nth => {
                    transport.dead.store(true, Ordering::SeqCst);
                    // The response is dropped: the process is killed before it receives it.
                    let _ = inner.call(request).await;
                    transport.killed.cancel();
                    Err(transport.hang().await)
                }
                _ => inner.call(request).await,
            }
        })
    }
}

fn refusal(action: &str) -> HttpResponse {
    let (status, body) = match action.split(':').next() {
        Some("dynamodb") => (
            400,
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":""}"#,
        ),
        Some("s3") => (503, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
        _ => (500, r#"{"__type":"com.amazonaws.sqs#InternalFailure","message":""}"#),
    };
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

impl Call {
    fn of(request: &HttpRequest) -> Self {
        let body = request.body().bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let field = |name: &str| {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            value[name].as_str().unwrap_or_default().to_owned()
        };
        if let Some((service, operation)) = request.headers().get("x-amz-target").and_then(|t| t.split_once('.')) {
            if service.starts_with("DynamoDB") {
                let (mut table, index) = (field("TableName"), field("IndexName"));
                if operation == "BatchGetItem" {
                    // All are of one table.
                    let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                    let mut tables = value["RequestItems"].as_object().into_iter().flat_map(serde_json::Map::keys);
                    table = tables.next().cloned().unwrap_or_default();
                }
                let resource = if index.is_empty() { table } else { format!("{table}/index/{index}") };
                return Self { action: format!("dynamodb:{operation}"), resource, body };
            }
            let queue = field("QueueUrl").rsplit('/').next().unwrap_or_default().to_owned();
            return Self { action: format!("sqs:{operation}"), resource: queue, body };
        }
        let uri: http::Uri = request.uri().parse().unwrap();
        let key = uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let query = uri.query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        // One IAM permission covers several operations.
        let action = match (request.method(), key) {
            ("GET", "") if has("uploads") => "ListBucketMultipartUploads",
            ("GET" | "HEAD", "") => "ListBucket",
            ("GET", _) if has("uploadId") => "ListMultipartUploadParts",
            ("GET" | "HEAD", _) => "GetObject",
            ("PUT" | "POST", _) => "PutObject",
            ("DELETE", _) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", _) => "DeleteObject",
            (method, _) => panic!("no IAM action known for {method} {uri}"),
        };
        Self { action: format!("s3:{action}"), resource: key.to_owned(), body: String::new() }
    }
}
