//! TCP to one address, and what errors of sockets mean.

use std::io;
use std::io::IoSlice;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use crate::probe::outcome::Cause;
use crate::probe::record::Record;
use crate::probe::record::Stop;
use crate::probe::record::Way;

/// Bytes in and out, whatever carries them.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any connection.
pub type Wire = Box<dyn Io>;

/// A connection that is closed and nothing else. A client of HTTP/1 ends its half first, and closes the rest a moment later: a system call more, of which the other
/// side sees nothing.
pub struct CloseOnly(pub TcpStream);

impl AsyncRead for CloseOnly {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for CloseOnly {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, all: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Connects.
pub async fn tcp(address: SocketAddr, source: Option<IpAddr>, record: &mut Record) -> Way<TcpStream> {
    record.begin("connect", || address.to_string());
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        io::Result::Ok(socket)
    };
    let socket = open().map_err(|error| of_io(&error, &source.map_or_else(|| "a socket".to_owned(), |source| source.to_string())))?;
    let stream = socket.connect(address).await.map_err(|error| of_io(&error, &address.to_string()))?;
    // What is said is short, and waited for.
    let _ = stream.set_nodelay(true);
    record.end();
    Ok(stream)
}

/// Why a socket failed.
pub fn of_io(error: &io::Error, about: &str) -> Stop {
    use io::ErrorKind;
    let cause = match error.kind() {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable => {
            Cause::Unreachable
        }
        ErrorKind::TimedOut => Cause::Timeout,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::NotConnected => Cause::Closed,
        ErrorKind::PermissionDenied => Cause::NotPermitted,
        _ => Cause::Other,
    };
    Stop::new(cause, format!("{about}: {error}"))
}

/// Host and port of a target: `host:port`, `[::1]:port`.
pub fn host_port(target: &str) -> Way<(&str, u16)> {
    let wrong =
        |why: &str| Stop::new(Cause::Target, format!("{target}: {why}; a target is host:port here, as example.com:443 or [::1]:443"));
    let (host, port) = target.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(wrong("has too many colons"));
    }
    let port = port.parse().map_err(|_| wrong("has no port that is a number"))?;
    Ok((bare.unwrap_or(host), port))
}
