//! `GET /v1/requests/{id}/events`: the status changes of a request as Server-Sent Events (WHATWG HTML 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use domain::{FetchRequest, Principal, Status};
use http::HeaderName;
use utoipa::ToSchema;

use super::Id;
use super::get::RequestView;
use crate::problem::{OwnErrors, Problem};
use crate::state::Api;

/// The longest single wait for a change in the store.
const PATIENCE: Duration = Duration::from_secs(25);

/// A Server-Sent Event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the events")]
pub(crate) struct StatusEvent {
    /// The type of the event: `status`.
    event: String,
    /// A `Request` as JSON.
    data: String,
}

/// The next event of the stream.
enum Next {
    /// The row as it is.
    This(Box<FetchRequest>),
    /// The row once it differs from this one.
    After(Box<FetchRequest>),
    /// None: the stream ends.
    End,
}

#[utoipa::path(
    get,
    path = "/requests/{id}/events",
    tag = "requests",
    summary = "Stream the status of a request",
    description = "Sends an event `status` with the request as JSON: at once, and whenever its status, progress or \
                   retry count changes. The stream ends when the request is ready, failed, cancelled or expired. Not \
                   available on AWS; use `?wait=` there.",
    params(("id" = String, Path, description = "The request's id")),
    responses(
        (status = 200, description = "The stream of events", body = StatusEvent, content_type = "text/event-stream"),
        OwnErrors
    )
)]
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let row = super::find_owned(&api, &principal, id).await?;
    let events = futures::stream::unfold(Next::This(Box::new(row)), move |next| {
        let api = api.clone();
        async move {
            let row = match next {
                Next::This(row) => *row,
                Next::After(seen) => changed(&api, &seen).await?,
                Next::End => return None,
            };
            let ended = row.status == Status::Ready || row.status.is_final();
            let next = if ended { Next::End } else { Next::After(Box::new(row.clone())) };
            let event = Event::default().event("status").json_data(RequestView::new(&api, row)).ok()?;
            Some((Ok::<_, Infallible>(event), next))
        }
    });
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    // Otherwise nginx buffers the events until the stream ends.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response())
}

/// Waits for a change and returns the row. Returns `None` if the row no longer exists or the store fails: the stream
/// ends, and the client reconnects.
async fn changed(api: &Api, seen: &FetchRequest) -> Option<FetchRequest> {
    loop {
        let row = api.requests.wait_for_change(seen, PATIENCE).await.ok()??;
        if row.has_progressed_since(seen) {
            return Some(row);
        }
    }
}
