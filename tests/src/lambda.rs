//! The runtime API of Lambda, for one function process.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::process::{cpu_ms, memory_mb};
use crate::{PATIENCE, root};

/// The outcome of an invocation: the function's response, or the error that it reported.
pub type Invoked = Result<Value, Value>;

struct Runtime {
    events: Mutex<mpsc::UnboundedReceiver<(Value, Duration)>>,
    polls: mpsc::UnboundedSender<Instant>,
    responses: mpsc::UnboundedSender<Invoked>,
}

/// Returns the sample event of a function, in `events/`.
pub fn event(function: &str) -> Value {
    let text = std::fs::read_to_string(root().join(format!("events/{function}.json"))).expect("an event");
    serde_json::from_str(&text).expect("JSON")
}

/// A running function binary. It is killed when it is dropped.
#[derive(Debug)]
pub struct Function {
    /// When its process was started.
    pub started: Instant,
    events: mpsc::UnboundedSender<(Value, Duration)>,
    polls: mpsc::UnboundedReceiver<Instant>,
    responses: mpsc::UnboundedReceiver<Invoked>,
    output: mpsc::UnboundedReceiver<String>,
    process: Child,
    _stop: DropGuard,
}

async fn next(State(runtime): State<Arc<Runtime>>) -> Response {
    let _ = runtime.polls.send(Instant::now());
    let Some((event, time)) = runtime.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = SystemTime::now() + time;
    let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis().to_string();
    let headers = [
        ("lambda-runtime-aws-request-id", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("lambda-runtime-deadline-ms", deadline),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:test".into()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".into()),
    ];
    (headers, Body::from(event.to_string())).into_response()
}

async fn respond(
    State(runtime): State<Arc<Runtime>>,
    UrlPath((_, what)): UrlPath<(String, String)>,
    body: String,
) -> StatusCode {
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    let _ = runtime.responses.send(if what == "response" { Ok(value) } else { Err(value) });
    StatusCode::ACCEPTED
}

impl Function {
    /// Starts a function with the environment that `environment` returns for the URL of a server that answers every
    /// `GET /`, which can stand in for AWS.
    pub async fn start(binary: &Path, environment: impl FnOnce(&str) -> Vec<(String, String)>) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let (polled, polls) = mpsc::unbounded_channel();
        let (sender, responses) = mpsc::unbounded_channel();
        let runtime = Runtime { events: Mutex::new(receiver), polls: polled, responses: sender };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{what}", post(respond))
            .route("/", get(async || "{}"))
            .with_state(Arc::new(runtime));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(axum::serve(listener, routes).into_future()).await });
        let started = Instant::now();
        let mut process = Command::new(binary)
            .env_clear()
            .envs(environment(&format!("http://{address}")))
            .env("AWS_LAMBDA_RUNTIME_API", &address)
            .env("AWS_LAMBDA_FUNCTION_NAME", binary.file_name().expect("a name"))
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "test")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "test")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let (sender, output) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        Self { started, events, polls, responses, output, process, _stop: stop.drop_guard() }
    }

    /// Waits until the function asks for its next event. Returns the time since its start.
    pub async fn ready(&mut self) -> Duration {
        let polled = tokio::time::timeout(PATIENCE, self.polls.recv()).await.expect("in time");
        polled.expect("it runs").duration_since(self.started)
    }

    /// Returns the most memory that the process has used so far, in MB.
    pub fn peak_mb(&self) -> f64 {
        memory_mb(self.process.id().expect("it runs"), "VmHWM")
    }

    /// Returns the CPU time that the process has used so far, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        cpu_ms(self.process.id().expect("it runs"))
    }

    /// Waits for the next line that the function writes to standard output.
    pub async fn line(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.output.recv()).await.expect("in time").expect("it runs")
    }

    /// Sends an event with a deadline of `time` from now, and returns the outcome.
    pub async fn invoke(&mut self, event: Value, time: Duration) -> Invoked {
        self.events.send((event, time)).expect("it runs");
        tokio::time::timeout(time + PATIENCE, self.responses.recv()).await.expect("in time").expect("it runs")
    }
}
