//! `GET /v1/requests/{id}/events` and `GET /v1/requests/events`: the status changes of requests as Server-Sent Events
//! (WHATWG HTML 9.2).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use domain::{FetchRequest, Principal, RequestId, Status};
use futures::future::{join_all, ready};
use futures::stream::select_all;
use futures::{Stream, StreamExt};
use http::{HeaderName, StatusCode};
use utoipa::{IntoParams, ToSchema};

use super::Id;
use super::get::RequestView;
use crate::problem::{OwnErrors, Problem};
use crate::query::Query;
use crate::state::Api;

/// The most requests that one call may follow.
const MAX_IDS: usize = 100;

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
    Ok(stream([row], &api))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
pub(crate) struct EventsParameters {
    /// The ids of the requests, separated by commas.
    #[param(style = Form, explode = false, min_items = 1, max_items = 100, value_type = Vec<Uuid>)]
    ids: Vec<RequestId>,
}

#[utoipa::path(
    get,
    path = "/requests/events",
    tag = "requests",
    summary = "Follow several requests",
    description = "As the events of one request, for up to 100: a browser limits the connections to a server. Ids of \
                   requests that you do not have are ignored. The stream ends when all have ended. Not available on \
                   AWS.",
    params(EventsParameters),
    responses(
        (status = 200, description = "The stream of events", body = StatusEvent, content_type = "text/event-stream"),
        OwnErrors
    )
)]
pub(crate) async fn events_of_several(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let ids = query.required::<Ids>("ids", "must be 1 to 100 ids of requests, separated by commas");
    query.finish()?;
    let ids = ids.map(|ids| ids.0).unwrap_or_default();
    let rows = join_all(ids.into_iter().map(|id| super::find_owned(&api, &principal, id))).await;
    let mut found = vec![];
    for row in rows {
        match row {
            Ok(row) => found.push(row),
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(stream(found, &api))
}

/// The ids in a query parameter.
struct Ids(BTreeSet<RequestId>);

impl FromStr for Ids {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ids = text.split(',').map(str::parse).collect::<Result<BTreeSet<_>, _>>().map_err(|_| ())?;
        if ids.len() <= MAX_IDS { Ok(Self(ids)) } else { Err(()) }
    }
}

/// Returns the response that streams the changes of these requests until all have ended.
fn stream(rows: impl IntoIterator<Item = FetchRequest>, api: &Arc<Api>) -> Response {
    let changes = select_all(rows.into_iter().map(|row| changes(row, api.clone()).boxed()));
    // Without the changes of one request the client would see it stand still: it must connect again.
    let events =
        changes.take_while(|event| ready(event.is_some())).map(|event| Ok::<_, Infallible>(event.unwrap_or_default()));
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    // Otherwise nginx buffers the events until the stream ends.
    ([(HeaderName::from_static("x-accel-buffering"), "no")], events).into_response()
}

/// Returns an event for the request as it is, and one for each change until it is ready or has ended. Returns `None` if
/// the row no longer exists or the store fails.
fn changes(row: FetchRequest, api: Arc<Api>) -> impl Stream<Item = Option<Event>> {
    futures::stream::unfold(Next::This(Box::new(row)), move |next| {
        let api = api.clone();
        async move {
            let row = match next {
                Next::This(row) => *row,
                Next::After(seen) => match changed(&api, &seen).await {
                    Some(row) => row,
                    None => return Some((None, Next::End)),
                },
                Next::End => return None,
            };
            let ended = row.status == Status::Ready || row.status.is_final();
            let next = if ended { Next::End } else { Next::After(Box::new(row.clone())) };
            let event = Event::default().event("status").json_data(RequestView::new(&api, row)).ok();
            Some((event, next))
        }
    })
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
