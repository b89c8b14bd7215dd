//! Servers that refuse, fail, are slow, or send elsewhere.

use std::time::{Duration, Instant};

use floe_api::report::Category;

use super::*;

fn token(seen: &Seen) -> Reply {
    Reply::json(&format!(r#"{{"access_token":"token-{}","token_type":"bearer","expires_in":3600}}"#, seen.before + 1))
}

#[test]
fn a_refused_token_is_renewed_once() {
    let server = Server::start(|seen| match (seen.path.as_str(), seen.header("authorization")) {
        ("/api/v1/oauth/tokens", _) => token(seen),
        (path, Some("Bearer token-1")) if path.contains("/config") => Reply::json("{}"),
        (_, Some("Bearer token-1")) => Reply::error(401, "NotAuthorizedException", "expired"),
        (_, Some("Bearer token-2")) => table(),
        other => panic!("{other:?}"),
    });
    let catalog =
        Catalog::open(&options(&server, &[("credential", "me:hunter2"), ("scope", "PRINCIPAL_ROLE:ALL")])).unwrap();
    catalog.load(&ns(), "t").unwrap();
    catalog.load(&ns(), "t").unwrap();
    let asked: Vec<Seen> = server.seen().into_iter().filter(|seen| seen.path.ends_with("/tokens")).collect();
    let form = "grant_type=client_credentials&client_id=me&client_secret=hunter2&scope=PRINCIPAL_ROLE%3AALL";
    assert_eq!(asked.iter().map(|seen| seen.body.as_str()).collect::<Vec<_>>(), [form, form]);
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/api/v1/oauth/tokens" => {
            Reply::json(&format!(r#"{{"access_token":"token-{}","expires_in":1}}"#, seen.before + 1))
        }
        path if path.contains("/config") => Reply::json("{}"),
        _ => table(),
    });
    let catalog = Catalog::open(&options(&server, &[("credential", "me:hunter2")])).unwrap();
    catalog.load(&ns(), "t").unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    catalog.load(&ns(), "t").unwrap();
    let last = server.seen().pop().unwrap();
    assert_ne!(last.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn who_is_refused_is_told_what_was_shown() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/api/v1/oauth/tokens" if seen.body.contains("wrong") => {
            Reply::new(401, r#"{"error":"invalid_client","error_description":"unknown client"}"#)
        }
        "/api/v1/oauth/tokens" => token(seen),
        path if path.contains("/config") => match seen.header("authorization") {
            None => Reply::error(401, "NotAuthorizedException", "who"),
            Some("Bearer hunter2-stale") => Reply::error(401, "NotAuthorizedException", "who"),
            Some(_) => Reply::json("{}"),
        },
        _ => Reply::error(403, "ForbiddenException", "not yours"),
    });
    let message = |properties: &[(&str, &str)]| {
        let error =
            Catalog::open(&options(&server, properties)).and_then(|catalog| catalog.load(&ns(), "t")).unwrap_err();
        assert_eq!((error.category, error.class.as_str()), (Category::User, "PermissionError"));
        assert!(!error.message.contains("hunter2"), "{}", error.message);
        error.message
    };
    assert!(message(&[]).contains("no credentials were given: put credential"), "{}", message(&[]));
    let stale = message(&[("token", "hunter2-stale")]);
    assert!(stale.contains("with the bearer token (token)"), "{stale}");
    let wrong = message(&[("credential", "me:hunter2-wrong")]);
    assert!(
        wrong.contains("gives no token for the client credentials") && wrong.contains("invalid_client: unknown client"),
        "{wrong}"
    );
    let mine = message(&[("credential", "me:hunter2")]);
    let want = "catalog lake: table ns.t: the credentials do not allow it: HTTP 403: ForbiddenException: not yours";
    assert!(mine.starts_with(want), "{mine}");
}

#[test]
fn reading_is_tried_again() {
    let server = serve(|seen| match seen.before {
        0 => Reply::new(500, ""),
        1 => Reply::new(429, "").with("retry-after", "0"),
        2 => Reply::cut(),
        _ => table(),
    });
    open(&server).load(&ns(), "t").unwrap();
    assert_eq!(server.paths().len(), 4);
    let down = serve(|_| Reply::new(503, "<html>").with("retry-after", "0"));
    let error = open(&down).load(&ns(), "t").unwrap_err();
    assert_eq!(error.category, Category::Io);
    assert_eq!(error.message, "catalog lake: table ns.t: HTTP 503");
    assert_eq!(down.paths().len(), 4, "attempts are bounded");
}

#[test]
fn no_other_server_sees_the_token() {
    let other = Server::start(|_| table());
    let elsewhere = format!("{}/api/v1/p/x", other.url());
    let to = elsewhere.clone();
    let server = serve(move |seen| match seen.path.as_str() {
        "/api/v1/p/namespaces/ns/tables/t?snapshots=all" => Reply::new(302, "").with("location", to.clone()),
        "/api/v1/p/namespaces/ns/tables/u?snapshots=all" => Reply::new(307, "").with("location", "/moved"),
        "/moved" => table(),
        "/api/v1/p/namespaces/ns/tables/v?snapshots=all" => Reply::new(307, "").with("location", seen.path.clone()),
        path => panic!("{path}"),
    });
    let catalog = Catalog::open(&options(&server, &[("token", "hunter2"), ("header.X-Key", "hunter2")])).unwrap();
    let error = catalog.load(&ns(), "t").unwrap_err();
    assert!(
        error.message.contains("redirects to another server") && error.message.contains(&other.url()),
        "{}",
        error.message
    );
    assert!(other.seen().is_empty());
    catalog.load(&ns(), "u").unwrap();
    assert_eq!(server.seen().pop().unwrap().header("authorization"), Some("Bearer hunter2"));
    assert!(catalog.load(&ns(), "v").is_err(), "a loop ends");
}

#[test]
fn the_catalogs_headers_are_not_for_another_servers_tokens() {
    let idp = Server::start(token);
    let server = Server::start(|_| Reply::json("{}"));
    let uri = format!("{}/token", idp.url());
    let given = [("credential", "me:hunter2"), ("oauth2-server-uri", uri.as_str()), ("header.X-Key", "k")];
    Catalog::open(&options(&server, &given)).unwrap();
    assert_eq!(idp.seen()[0].header("x-key"), None);
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer token-1"));
    assert_eq!(server.seen()[0].header("x-key"), Some("k"));
}

#[test]
fn answers_that_make_no_sense_are_told() {
    let server = serve(|seen| match seen.path.contains("/tables/t") {
        true => Reply::json(r#"{"metadata": {"location": "#),
        false => Reply::json(r#"{"metadata": {"format-version": 2}}"#),
    });
    let error = open(&server).load(&ns(), "t").unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::User, "BadCatalog"));
    assert!(
        error.message.starts_with("catalog lake: table ns.t: its answer cannot be understood: "),
        "{}",
        error.message
    );
    let error = open(&server).load(&ns(), "u").unwrap_err();
    assert!(error.message.contains("its metadata cannot be understood: missing field `location`"), "{}", error.message);
    let page = Server::start(|_| Reply::new(404, "<html>"));
    let mut wrong = options(&page, &[]);
    wrong.uri.push_str("v1");
    let error = Catalog::open(&wrong).err().unwrap();
    assert!(error.message.contains("write its uri without /v1"), "{}", error.message);
}

#[test]
fn silence_is_told_in_time() {
    let slow = serve(|_| table().after(Duration::from_secs(5)));
    let since = Instant::now();
    let catalog = Catalog::open(&options(&slow, &[("rest.client.socket-timeout-ms", "300")])).unwrap();
    let error = catalog.load(&ns(), "t").unwrap_err();
    assert_eq!(error.category, Category::Io);
    assert!(error.message.contains("did not answer in time"), "{}", error.message);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    // A port that nothing listens at.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone =
        CatalogOptions { name: "lake".into(), uri: format!("http://127.0.0.1:{port}"), ..CatalogOptions::default() };
    let error = Catalog::open(&gone).err().unwrap();
    assert_eq!(error.category, Category::Io);
    let want = format!("catalog lake: http://127.0.0.1:{port}/v1/config does not answer: ");
    assert!(error.message.starts_with(&want), "{}", error.message);
    let nonsense = CatalogOptions { name: "lake".into(), uri: "catalog".into(), ..CatalogOptions::default() };
    assert_eq!(Catalog::open(&nonsense).err().unwrap().class, "BadCatalog");
}
