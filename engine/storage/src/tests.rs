//! Local files and HTTP; object stores are tested with the sinks that use them.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use bytes::Bytes;

use super::*;
use floe_wire::error::Category;

#[test]
fn local_files_are_read_listed_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (base, options) = (directory.path().display().to_string(), Options::default());
    let file = format!("file://{base}/a/b.bin");
    write(&file, Bytes::from_static(b"x"), &options).unwrap();
    write(&format!("{base}/a/c/d"), Bytes::from_static(b"yz"), &options).unwrap();
    assert_eq!(read(&file, &options).unwrap(), "x");
    let entries = list(&format!("{base}/a"), &options).unwrap();
    let sizes: Vec<_> = entries.iter().map(|entry| (entry.path.strip_prefix(&base).unwrap(), entry.size)).collect();
    assert_eq!(sizes, [("/a/b.bin", 1), ("/a/c/d", 2)]);
    assert_eq!(list(&file, &options).unwrap().len(), 1);
    assert_eq!(list(&format!("{base}/none"), &options).unwrap(), []);
    assert!(exists(&file, &options).unwrap());
    assert_eq!(delete_prefix(&format!("{base}/a"), &options).unwrap(), 2);
    assert!(!exists(&format!("{base}/a"), &options).unwrap());
    let error = read(&file, &options).unwrap_err();
    assert_eq!((error.category, error.class.as_str()), (Category::User, "FileNotFoundError"));
    assert!(error.message.contains("/a/b.bin"), "{error}");
}

/// A server whose answers depend on the request's path.
fn http_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/plan?sig=secret" => ("200 OK", "the plan"),
                "/denied?sig=secret" => ("403 Forbidden", ""),
                _ => ("404 Not Found", ""),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    base
}

#[test]
fn http_is_read_with_its_query_which_is_never_shown() {
    let (base, options) = (http_server(), Options::default());
    assert_eq!(read(&format!("{base}/plan?sig=secret"), &options).unwrap(), "the plan");
    for (path, class) in [("denied?sig=secret", "PermissionError"), ("none?sig=secret", "FileNotFoundError")] {
        let error = read(&format!("{base}/{path}"), &options).unwrap_err();
        assert_eq!((error.category, error.class.as_str()), (Category::User, class));
        assert!(!error.message.contains("secret") && error.message.contains(&base), "{error}");
    }
    assert_eq!(write(&format!("{base}/x"), Bytes::new(), &options).unwrap_err().class, "BadUri");
    assert_eq!(list(&base, &options).unwrap_err().class, "BadUri");
    let nobody = read("http://127.0.0.1:1/x", &options).unwrap_err();
    assert_eq!(nobody.category, Category::Io);
}
