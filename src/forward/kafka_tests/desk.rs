//! Somebody who answers HTTP, for tests.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;

/// A stand-in for a schema registry or an authorization server: answers each request by what it is told to, and writes down what came.
pub struct Desk {
    pub address: String,
    pub heard: Arc<Mutex<Vec<String>>>,
    pub says: Arc<Mutex<(u16, String)>>,
}

pub fn desk() -> Desk {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (heard, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new((503, "{}".to_owned()))));
    let (hears, answers) = (Arc::clone(&heard), Arc::clone(&says));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).to_lowercase();
                let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
                let head = text.find("\r\n\r\n")?;
                (request.len() >= head + 4 + length).then_some(())
            };
            while whole(&request).is_none() {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&piece[..read]),
                }
            }
            hears.lock().unwrap().push(String::from_utf8(request).unwrap());
            let (status, body) = answers.lock().unwrap().clone();
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    Desk { address, heard, says }
}
