//! The small web servers of native processes: the demo page's files, and a role's health and counters. Loopback by default.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::base::{Code, Error};

/// Takes the address, before anything is served there.
///
/// # Errors
/// [`Code::AddressInUse`] if another program has it, else [`Code::Unreachable`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|e| {
        if e.kind() == std::io::ErrorKind::AddrInUse {
            Error::new(Code::AddressInUse, format!("port {} is taken by another program", address.port()))
                .hint("Stop it, or choose another port")
        } else {
            Error::new(Code::Unreachable, format!("cannot listen on {address}")).caused_by(e)
        }
    })
}

/// Serves until `stop` resolves.
///
/// # Errors
/// [`Code::Unreachable`] if the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop).await;
    served.map_err(|e| Error::new(Code::Unreachable, "the web server stopped").caused_by(e))
}

/// The files of a directory: `index.html` for `/`, right types (browsers stream wasm only as `application/wasm`), nothing
/// cached, and no referrer, because the invitation is in the address bar.
pub fn page(root: PathBuf) -> Router {
    Router::new().fallback(file).with_state(Arc::new(root))
}

async fn file(State(root): State<Arc<PathBuf>>, method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(path) = locate(&root, uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(bytes) = tokio::fs::read(&path).await else { return (StatusCode::NOT_FOUND, "not found").into_response() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(mime(&path))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, bytes).into_response()
}

/// The file a request's path names. Only plain names below the root, none that starts with a dot; nothing is unescaped,
/// as none of our files needs it.
fn locate(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = |c: Component<'_>| matches!(c, Component::Normal(name) if !name.to_string_lossy().starts_with('.'));
    if !relative.components().all(plain) {
        return None;
    }
    let found = if path.ends_with('/') || path.is_empty() { root.join(relative).join("index.html") } else { root.join(relative) };
    // A link inside the directory must not lead out of it.
    found.canonicalize().ok().filter(|real| root.canonicalize().is_ok_and(|root| real.starts_with(root)))
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// What a role shows of itself.
pub trait Health: Send + Sync + 'static {
    /// Is it doing its work?
    fn ready(&self) -> bool;
    /// Counters: name, what it counts, value. The names end in `_total` where they only grow.
    fn counters(&self) -> Vec<(&'static str, &'static str, u64)>;
}

/// `/livez` (the process answers), `/readyz` (it does its work) and `/metrics` (Prometheus text format 0.0.4).
pub fn health(role: Arc<dyn Health>) -> Router {
    let (ready, counted) = (role.clone(), role);
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(move || async move {
                if ready.ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
            }),
        )
        .route(
            "/metrics",
            get(move || async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics(&counted.counters())) }),
        )
}

fn metrics(counters: &[(&'static str, &'static str, u64)]) -> String {
    let one = |(name, help, value): &(&str, &str, u64)| {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    };
    counters.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_below_the_root_are_served() {
        let root = std::env::temp_dir().join(format!("peerage-web-{}", std::process::id()));
        std::fs::create_dir_all(root.join("inner")).unwrap();
        for name in ["index.html", "a.wasm", ".hidden", "inner/index.html"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).unwrap();
        for yes in ["/", "/index.html", "/a.wasm", "/inner/"] {
            assert!(locate(&root, yes).is_some(), "{yes}");
        }
        for no in ["/../etc/passwd", "//etc/passwd", "/.hidden", "/inner/../../x", "/out", "/missing", "/%2e%2e/x"] {
            assert!(locate(&root, no).is_none(), "{no}");
        }
        assert_eq!(mime(Path::new("a.wasm")), "application/wasm");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn counters_are_told_in_prometheus_text() {
        let text = metrics(&[("x_total", "Things.", 3), ("y", "Now.", 1)]);
        assert_eq!(text, "# HELP x_total Things.\n# TYPE x_total counter\nx_total 3\n# HELP y Now.\n# TYPE y gauge\ny 1\n");
    }
}
