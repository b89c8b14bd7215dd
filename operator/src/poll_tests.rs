//! The poller against pods that answer, redirect, say nothing, or do not stop sending.

use super::*;
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};

#[test]
fn short_queries_are_asked_often_and_dead_ones_seldom() {
    let seconds = Duration::from_secs;
    assert_eq!(pause(Duration::ZERO, false), Duration::from_millis(100));
    assert_eq!(pause(seconds(5), false), Duration::from_millis(500));
    assert_eq!(pause(seconds(600), false), seconds(1));
    assert_eq!(pause(seconds(600), true), seconds(3));
}

/// Loopback has an address for each pod.
async fn pod(ip: &str, port: u16, router: Router) {
    let listener = tokio::net::TcpListener::bind((ip, port)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
}

#[tokio::test]
async fn workers_are_told_of_their_coordinator_until_it_knows_them() {
    let known = Arc::new(Mutex::new(Vec::<String>::new()));
    let (connect, told) = (Arc::clone(&known), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&told);
    let listen = move |headers: HeaderMap, body: String| {
        assert_eq!(headers["authorization"], "Bearer secret");
        heard.lock().unwrap().push(body);
        connect.lock().unwrap().push("q-1-w0-0".into());
        std::future::ready("")
    };
    let report = move || {
        let workers = known.lock().unwrap().clone();
        let phase = if workers.is_empty() { "Planning" } else { "Succeeded" };
        std::future::ready(serde_json::json!({"phase": phase, "workers": workers}).to_string())
    };
    pod("127.9.7.1", HTTP_PORT, Router::new().route("/api/v1/queries/u", get(report))).await;
    let (mut poller, mut news) = Poller::new().unwrap();
    poller.patience = Duration::from_millis(200);
    let key: Key = ("n".into(), "q".into());
    let address =
        Address { id: "u".into(), attempt: 1, ip: "127.9.7.1".into(), token: "secret".into(), is_lent: false };
    poller.follow(key.clone(), address.clone(), Vec::new());
    assert_eq!(news.recv().await, Some(key.clone()));
    // The worker's pod runs before its process listens; it is reported if that takes longer.
    let worker = Worker { name: "q-1-w0-0".into(), ip: "127.9.7.2".into() };
    poller.follow(key.clone(), address, vec![worker]);
    assert_eq!(news.recv().await, Some(key.clone()));
    assert!(poller.heard("u", 1).silence.unwrap().contains("q-1-w0-0"));
    pod("127.9.7.2", WORKER_PORT, Router::new().route("/coordinator", post(listen))).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            news.recv().await.unwrap();
            let heard = poller.heard("u", 1);
            if heard.report.as_deref().and_then(Verdict::of).is_some() {
                return heard;
            }
        }
    });
    assert_eq!(heard.await.unwrap().silence, None);
    assert_eq!(*told.lock().unwrap(), ["127.9.7.1:7070"]);
    assert_eq!(poller.heard("u", 2), Heard::default());
}

/// What the poller reports of a coordinator and a worker that answer like this.
async fn silence_of(ip: &str, coordinator: Router, worker: Router) -> String {
    let worker_ip = format!("{ip}9");
    pod(ip, HTTP_PORT, coordinator).await;
    pod(&worker_ip, WORKER_PORT, worker).await;
    let (mut poller, mut news) = Poller::new().unwrap();
    poller.patience = Duration::from_millis(200);
    let address = Address { id: "u".into(), attempt: 1, ip: ip.into(), token: "secret".into(), is_lent: false };
    let worker = Worker { name: "q-1-w0-0".into(), ip: worker_ip };
    poller.follow(("n".into(), "q".into()), address, vec![worker]);
    let silence = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            news.recv().await.unwrap();
            if let Some(silence) = poller.heard("u", 1).silence {
                return silence;
            }
        }
    });
    let silence = silence.await.unwrap();
    poller.forget_all();
    silence
}

/// A server that answers could redirect to, and its number of connections.
async fn elsewhere(ip: &str) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let url = format!("http://{}/latest/meta-data", listener.local_addr().unwrap());
    tokio::spawn(async move {
        // Every connection counts, whatever is requested.
        while listener.accept().await.is_ok() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    (url, asked)
}

#[tokio::test]
async fn a_pod_cannot_send_the_operator_elsewhere() {
    let (url, asked) = elsewhere("127.9.8.7").await;
    let redirect = |code: StatusCode, url: &str| {
        let answer = (code, [(axum::http::header::LOCATION, url.to_owned())]);
        move || std::future::ready(answer.clone())
    };
    for (at, code) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let code = StatusCode::from_u16(code).unwrap();
        let away = Router::new().fallback(redirect(code, &url));
        let sound = Router::new().fallback(|| std::future::ready(r#"{"phase": "Running"}"#));
        let silence = silence_of(&format!("127.9.8.1{at}"), away.clone(), Router::new()).await;
        assert_eq!(silence, format!("the coordinator does not answer at port {HTTP_PORT}: the pod answered {code}"));
        let silence = silence_of(&format!("127.9.8.2{at}"), sound, away).await;
        assert_eq!(silence, format!("pod q-1-w0-0 does not answer at port {WORKER_PORT}: the pod answered {code}"));
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
    // A client that follows redirects does reach it.
    pod("127.9.8.99", HTTP_PORT, Router::new().fallback(redirect(StatusCode::FOUND, &url))).await;
    let follow = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
    follow.get(format!("http://127.9.8.99:{HTTP_PORT}/")).send().await.unwrap_err();
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let endless = || {
        let piece = axum::body::Bytes::from(vec![b' '; 1 << 20]);
        std::future::ready(axum::body::Body::from_stream(futures::stream::repeat_with(move || {
            Ok::<_, std::convert::Infallible>(piece.clone())
        })))
    };
    let silence = silence_of("127.9.9.1", Router::new().fallback(endless), Router::new()).await;
    let silence = silence.rsplit(": ").next().unwrap();
    assert_eq!(silence, format!("the pod's answer has more than {MAX_ANSWER_BYTES} bytes"));
}
