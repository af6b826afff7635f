//! Peers on loopback: TCP, HTTP/1 and HTTP/2 servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Starts a TCP server with one thread per connection.
pub fn tcp_server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Starts a TCP server that sends received bytes back, and closes after its peer.
pub fn echo_server() -> SocketAddr {
    tcp_server(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Starts an HTTP/1 server that sends the request back as the response body: request line, headers and body.
pub fn mirror_server() -> SocketAddr {
    tcp_server(|mut stream| {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&received).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let chunked = head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n");
            if chunked || body.len() < length.unwrap_or(0) {
                continue;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-mirror: yes\r\n\r\n{text}", text.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            received.clear();
        }
    })
}

/// Starts an HTTP/2 server that sends the request body back as a stream, then the trailer `grpc-status: 0`.
///
/// The response headers `x-authority` and `x-path` repeat the request's.
pub fn http2_server() -> SocketAddr {
    start_http2_server(false)
}

/// Starts a server like [`http2_server`] that answers after it has received the whole request.
pub fn patient_http2_server() -> SocketAddr {
    start_http2_server(true)
}

fn start_http2_server(is_patient: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    let authority = request.uri().authority().map_or("", |authority| authority.as_str()).to_owned();
                    let path = request.uri().path().to_owned();
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
                    let body = match is_patient {
                        true => {
                            Full::new(request.into_body().collect().await?.to_bytes()).map_err(|it| match it {}).boxed()
                        }
                        false => request.into_body().boxed(),
                    };
                    let body = body.with_trailers(async move { Some(Ok(trailers)) });
                    let response = Response::builder().header("x-authority", authority).header("x-path", path);
                    let response = response.header("content-type", "application/grpc").body(body);
                    Ok::<_, hyper::Error>(response.expect("a response"))
                });
                let serving = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    address
}

/// Returns a loopback address without a listener.
pub fn nobody() -> SocketAddr {
    // A server of another test could get a port that was free.
    SocketAddr::from(([127, 0, 0, 1], 1))
}
