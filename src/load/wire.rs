//! What carries messages to the server under test and back.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::load::plan::LoadError;

/// Datagrams, or a connection for each user.
pub(super) trait Wire {
    /// One message of a user, on its way by the next [`Wire::flush`].
    fn send(&mut self, user: u32, write: impl FnOnce(&mut Vec<u8>));

    /// Sends what is still here.
    fn flush(&mut self);

    /// Hands over what has come; waits for the first at most so long.
    fn receive(&mut self, patience: Duration, each: impl FnMut(&[u8]));

    /// Messages that could not be sent, and connections that ended.
    fn faults(&self) -> Faults;
}

/// What went wrong below SIP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Messages the kernel did not take.
    pub(super) unsent: u64,
    /// Connections that ended before the run did.
    pub(super) closed: u64,
}

/// Waits until there is something to read, at most so long.
pub(super) fn readable(file: impl AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    ppoll(&mut polled, Some(TimeSpec::from_duration(patience)), None).is_ok_and(|count| count > 0)
}

/// Waits until there is room to write, a little.
pub(super) fn writable(file: impl AsFd) {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    let little = TimeSpec::from_duration(Duration::from_millis(10));
    // Whoever waits tries again anyway.
    let _whether = ppoll(&mut polled, Some(little), None);
}

/// An error of the system, named.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::System { what, source }
}

/// The same for [`nix`].
pub(super) fn failed(what: &'static str) -> impl FnOnce(Errno) -> LoadError {
    move |errno| LoadError::System { what, source: errno.into() }
}
