//! Connections and requests: who is served, for how long, how much of a request is read. The listeners are the Kafka
//! listeners' own (TLS, deadlines and crowds before the first byte are theirs); from the first request on it is HTTP/1.1.

use super::login::Visitor;
use super::routes::{BASES, ROUTES, Route};
use super::{Asked, Doors, Error};
use crate::operations::{Operation, Outcome};
use crate::service::Service;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, RequestExt, Router};
use bytes::Bytes;
use hawser_transport::{Listener, Principal, ServerConnection, caught};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections of one listener: clients of this API are a handful. One more pushes out the oldest on which no known sender
/// waits for an answer, so that a crowd of strangers cannot keep others out.
const CONNECTIONS_MAX: usize = 256;
/// From the end of an answer, or from the connection's begin, to the end of the next request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// For a request's body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// For an operation: the longest, making a link, waits 30 s for the other side. It goes on without its client.
const OPERATION_TIME: Duration = Duration::from_secs(60);
/// After this a connection ends with the request that it is at.
const LIFETIME: Duration = Duration::from_secs(600);
/// A request that is being answered when the connection should end, or the daemon stops.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(90);
/// Requests of one listener that are being done at a time. Fewer than connections, so that who brings one too many has a
/// connection on which to be told so.
const REQUESTS_MAX: usize = 128;
/// A request line and its headers with their ends of lines, in bytes, whitespace around values aside: names have at most
/// 249, credentials 16 KiB. More is refused exactly; the buffer that a head is read into ends with the read that passes it.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A body, in bytes: the settings of a link with a few certificate chains.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Rest {
    service: Arc<Service>,
    doors: Arc<Doors>,
    /// [`REQUESTS_MAX`]
    room: Arc<Semaphore>,
    is_tls: bool,
}

/// Serves `listener` until `shutdown`; requests under way are answered first.
pub(crate) async fn serve(
    listener: Listener,
    service: Arc<Service>,
    doors: Arc<Doors>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let mut open = VecDeque::new();
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let connection = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            connection = listener.accept() => connection,
        };
        let Some(place) = admit(&mut open) else {
            tracing::debug!(peer = %connection.peer(), "REST connection closed: {CONNECTIONS_MAX} are being answered");
            continue;
        };
        let (service, doors, room) = (service.clone(), doors.clone(), room.clone());
        let rest = Rest { service, doors, room, is_tls: connection.is_tls() };
        let (router, shutdown) = (router(rest), shutdown.clone());
        tasks.spawn(async move { converse(connection, router, place, shutdown).await });
    }
}

/// A connection's place among the open ones.
#[derive(Clone, Default)]
struct Place {
    /// Cancelled when it is over, and to end it.
    over: CancellationToken,
    /// A sender who is known waits for an answer.
    is_busy: Arc<AtomicBool>,
}

/// A place for one more; `None` when all are busy.
fn admit(open: &mut VecDeque<Place>) -> Option<Place> {
    open.retain(|place| !place.over.is_cancelled());
    if open.len() >= CONNECTIONS_MAX {
        let idle = open.iter().position(|place| !place.is_busy.load(Ordering::Relaxed))?;
        open.remove(idle)?.over.cancel();
    }
    let place = Place::default();
    open.push_back(place.clone());
    Some(place)
}

async fn converse(connection: ServerConnection, router: Router, place: Place, shutdown: CancellationToken) {
    let _over = place.over.clone().drop_guard();
    let pushed_out = place.over.clone();
    let visitor = Visitor { peer: connection.peer(), principal: connection.principal().clone() };
    let peer = visitor.peer;
    let service = TowerToHyperService::new(router.layer(Extension(visitor)).layer(Extension(place)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = pin!(http.serve_connection(TokioIo::new(connection.into_stream()), service));
    let result = tokio::select! {
        result = &mut serving => result,
        () = pushed_out.cancelled() => return,
        () = shutdown.cancelled() => last_answer(serving).await,
        () = sleep(LIFETIME) => last_answer(serving).await,
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "REST connection ended");
    }
}

type Serving<'a> =
    std::pin::Pin<&'a mut http1::Connection<TokioIo<hawser_transport::Stream>, TowerToHyperService<Router>>>;

async fn last_answer(mut serving: Serving<'_>) -> Result<(), hyper::Error> {
    serving.as_mut().graceful_shutdown();
    timeout(LAST_ANSWER_TIME, serving).await.unwrap_or(Ok(()))
}

fn router(rest: Rest) -> Router {
    let mut router = Router::new();
    for (base, route) in BASES.iter().flat_map(|base| ROUTES.iter().map(move |route| (*base, route))) {
        // All verbs of the table have a filter; the fallback answers for it if one had not.
        let Ok(method) = MethodFilter::try_from(route.method.clone()) else { continue };
        // Some clients end a path with a slash.
        for end in ["", "/"] {
            let handler = move |State(rest): State<Rest>,
                                Extension(visitor): Extension<Visitor>,
                                Extension(place): Extension<Place>,
                                request: Request| async move {
                let answer = match rest.doors.sender(&visitor, request.headers()).await {
                    Ok(principal) => {
                        place.is_busy.store(true, Ordering::Relaxed);
                        guarded(answer(&rest, route, base, principal, request)).await
                    }
                    Err(error) => Err(error),
                };
                place.is_busy.store(false, Ordering::Relaxed);
                answer.unwrap_or_else(Error::into_answer)
            };
            router = router.route(&format!("{base}{}{end}", route.path), on(method, handler));
        }
    }
    router
        .fallback(|| async { Error::not_found("HTTP 404 Not Found").into_answer() })
        .method_not_allowed_fallback(|| async { Error::method_not_allowed().into_answer() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(rest.clone(), sifted))
        .with_state(rest)
}

/// Nothing else is looked at in a request whose head is too large, or that is another site's.
async fn sifted(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    let admitted = if head_bytes(&request) > HEAD_BYTES_MAX {
        Err(Error::head_too_large(HEAD_BYTES_MAX))
    } else {
        rest.doors.names.admit(&request, rest.is_tls)
    };
    match admitted {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_answer().into_response(),
    }
}

/// See [`HEAD_BYTES_MAX`].
fn head_bytes(request: &Request) -> usize {
    let line = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).len();
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len());
    line + headers.sum::<usize>() + "\r\n".len()
}

/// A bug of ours is answered like any other failure, and ends only its request.
async fn guarded<T>(answering: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    caught(answering).await.unwrap_or_else(|panicked| {
        tracing::error!(%panicked, "a REST request failed");
        Err(Error::internal("The request failed in the daemon; its log says where."))
    })
}

/// Room, then cluster, then body, then the operation: each costs more than the one before.
async fn answer(
    rest: &Rest,
    route: &'static Route,
    base: &str,
    principal: Principal,
    mut request: Request,
) -> Result<super::answer::Answer, Error> {
    let _room = rest.room.try_acquire().map_err(|_| Error::too_many(REQUESTS_MAX))?;
    let path = placeholders(&mut request).await?;
    let describe = rest.service.execute(&principal, Operation::ClusterDescribe).await?;
    let Outcome::Cluster(cluster) = describe else { return Err(super::unexpected()) };
    if let Some(asked) = path.get("cluster_id").filter(|id| **id != cluster.cluster_id) {
        return Err(Error::not_found(format!("Cluster {asked} cannot be found.")));
    }
    let query = Query::<BTreeMap<String, String>>::try_from_uri(request.uri());
    let Query(query) = query.map_err(|_| Error::unreadable("The query cannot be read."))?;
    let base = format!("{}{base}", origin(rest.is_tls, request.headers()));
    let body = timeout(BODY_TIME, body(request)).await;
    let body = body.map_err(|_| Error::timeout("The body did not arrive in time."))??;
    let cluster_id = cluster.cluster_id;
    let asked = Asked { service: rest.service.clone(), principal, cluster_id, base, path, query, body };
    let handled = timeout(OPERATION_TIME, (route.handle)(asked)).await;
    handled.map_err(|_| Error::timeout("The operation was accepted and is not done yet."))?
}

async fn placeholders(request: &mut Request) -> Result<BTreeMap<String, String>, Error> {
    let params = request.extract_parts::<RawPathParams>().await;
    let params = params.map_err(|_| Error::unreadable("The path cannot be read."))?;
    Ok(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

async fn body(request: Request) -> Result<Bytes, Error> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::too_large(BODY_BYTES_MAX),
        _ => Error::unreadable("The body cannot be read."),
    })
}

/// `https://host:port`, as the client sees this server; empty if it does not say.
fn origin(is_tls: bool, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(is_plain) {
        return String::new();
    }
    format!("{}://{host}", if is_tls { "https" } else { "http" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let mut open = VecDeque::new();
        let places: Vec<_> = (0..CONNECTIONS_MAX).map(|_| admit(&mut open).unwrap()).collect();
        places[0].is_busy.store(true, Ordering::Relaxed);
        let late = admit(&mut open).unwrap();
        let ended: Vec<_> = places.iter().map(|place| place.over.is_cancelled()).take(3).collect();
        assert_eq!((ended, open.len()), (vec![false, true, false], CONNECTIONS_MAX));
        // One that ended by itself is forgotten, and nobody is pushed out.
        places[2].over.cancel();
        assert!(admit(&mut open).is_some() && !places[3].over.is_cancelled());
        for place in places.iter().chain([&late]).chain(open.iter().collect::<Vec<_>>()) {
            place.is_busy.store(true, Ordering::Relaxed);
        }
        assert!(admit(&mut open).is_none());
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_says_nothing_of_itself() {
        let failed = guarded(async { if true { panic!("at secret 7") } else { Ok(()) } }).await.unwrap_err();
        assert_eq!((failed.status.as_u16(), failed.code), (500, 500));
        assert!(!failed.message.contains("secret"), "{failed:?}");
        assert_eq!(guarded(async { Ok(7) }).await, Ok(7));
    }

    #[test]
    fn the_origin_is_what_the_client_calls_us_or_nothing() {
        let origin = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            origin(true, &headers)
        };
        assert_eq!(origin("[::1]:8090"), "https://[::1]:8090");
        for strange in ["", "a\"b", "a/b", "a b"] {
            assert_eq!(origin(strange), "");
        }
    }
}
