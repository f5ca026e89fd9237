//! `GET /v1/requests/{id}/events`: where a request stands, told as it changes (Server-Sent Events, WHATWG
//! HTML 9.2).

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

/// How long the store is asked to wait at a time.
const PATIENCE: Duration = Duration::from_secs(25);

/// An event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents the events")]
pub(crate) struct StatusEvent {
    /// `status`.
    event: String,
    /// A `Request`, as JSON.
    data: String,
}

/// What is told next.
enum Next {
    This(Box<FetchRequest>),
    After(Box<FetchRequest>),
    End,
}

#[utoipa::path(
    get,
    path = "/requests/{id}/events",
    tag = "requests",
    summary = "Watch a request",
    description = "An event `status` with the request as its data: at once, and whenever its status or progress \
                   changes. The stream ends with the request being ready, failed, cancelled or expired. Only where \
                   the service runs embedded; elsewhere use `?wait=`.",
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 200, description = "The events", body = StatusEvent, content_type = "text/event-stream"), OwnErrors)
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
            let event = Event::default().event("status").json_data(RequestView::from(row)).ok()?;
            Some((Ok::<_, Infallible>(event), next))
        }
    });
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    // nginx would keep the events back until the stream ends.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response())
}

/// The row once it has changed; `None` if it is gone or the store fails, which ends the stream: the client
/// connects anew.
async fn changed(api: &Api, seen: &FetchRequest) -> Option<FetchRequest> {
    let state = |row: &FetchRequest| (row.status, row.progress, row.retry_count);
    loop {
        let row = api.requests.wait_for_change(seen, PATIENCE).await.ok()??;
        if state(&row) != state(seen) {
            return Some(row);
        }
    }
}
