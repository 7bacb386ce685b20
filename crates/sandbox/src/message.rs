//! What the host and its init say to each other over a socket pair: first one descriptor (the
//! program's standard input), then length-prefixed JSON both ways.
//!
//! The policy travels here and not on a command line, where every user of the machine could read
//! it. End of file is a message too: to the init it says that the host is gone or wants the tree
//! killed.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Layers, Policy, error::Failure};

/// Larger than any honest message; a guard against reading garbage as a length.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// From the host, once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) policy: Policy,
    /// The command line; empty to set everything up and leave again.
    pub(crate) argv: Vec<OsString>,
    /// Leave the namespaces out.
    pub(crate) floor_only: bool,
}

/// From the init: `Started` and then `Ended`, or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started { program_pid: i32, layers: Layers },
    Failed(Failure),
    Ended(Ended),
}

/// How the program ended; sent when the whole tree is dead.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) status: Status,
    /// User and system time of the whole tree.
    pub(crate) cpu: Duration,
    /// The largest resident size of a single process.
    pub(crate) max_rss_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Exited(i32),
    Signalled(i32),
}

pub(crate) fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let mut frame = u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
    frame.extend(json);
    socket.write_all(&frame)
}

pub(crate) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("a message of absurd length"));
    }
    let mut json = vec![0; length];
    socket.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Room for one descriptor in a control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Runs `call` with a message of one byte and room for one descriptor.
fn with_message<R>(byte: &mut u8, call: impl FnOnce(&mut libc::msghdr) -> R) -> R {
    let mut iov = libc::iovec { iov_base: std::ptr::from_mut(byte).cast(), iov_len: 1 };
    let mut control = ControlBuffer([0; 64]);
    // SAFETY: `msghdr` is plain data for which all zeroes is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast();
    // SAFETY: computes a size only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
    call(&mut message)
}

/// Sends one byte with a descriptor attached.
pub(crate) fn send_descriptor(socket: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let sent = with_message(&mut 1, |message| {
        // SAFETY: the control buffer is aligned and holds CMSG_SPACE of one descriptor, so the
        // first header and its data lie inside it; `message` outlives the call.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
            libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_NOSIGNAL)
        }
    });
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives what [`send_descriptor`] sent.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    with_message(&mut 0, |message| {
        // SAFETY: `message` and its buffers outlive the call.
        let n_bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) };
        if n_bytes < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel filled the control buffer and set its length; the header is looked
        // at only if one is there, and its data only if it carries descriptors.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null()
                || (*header).cmsg_level != libc::SOL_SOCKET
                || (*header).cmsg_type != libc::SCM_RIGHTS
            {
                return Err(io::Error::other("no descriptor came with the message"));
            }
            let descriptor = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
            Ok(OwnedFd::from_raw_fd(descriptor))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_and_a_message_arrive() {
        let (left, right) = UnixStream::pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        send_descriptor(&left, reader.as_fd()).unwrap();
        send(&left, &Status::Exited(3)).unwrap();
        let mut received = std::fs::File::from(receive_descriptor(&right).unwrap());
        assert_eq!(receive::<Status>(&right).unwrap(), Status::Exited(3));
        writer.write_all(b"through").unwrap();
        drop((writer, reader));
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_closed_socket_and_garbage_are_errors() {
        let (left, right) = UnixStream::pair().unwrap();
        (&left).write_all(&[255; 8]).unwrap();
        assert!(receive::<Status>(&right).is_err());
        drop(left);
        assert!(receive_descriptor(&right).is_err());
    }
}
