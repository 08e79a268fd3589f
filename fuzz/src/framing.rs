//! Any stream: however it is cut, the same messages and pings come out before it ends or fails, and
//! no more than one message waits. Which of several errors is told depends on what came first.

use bytes::Bytes;
use frontdoor::sip::framing::{Frame, Framer, Limits};

/// Small, so that they are met.
const LIMITS: Limits = Limits { message: 1400, headers: 1200 };

/// Cuts the stream in several ways.
pub fn run(data: &[u8]) {
    let whole = frames(data, false, |_| usize::MAX);
    assert!(frames(data, true, |_| usize::MAX) == whole, "where it landed");
    assert!(frames(data, false, |_| 1) == whole, "octet by octet");
    let seed = data.iter().fold(data.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    for most in [3, 40, 700] {
        let cut = |index: usize| 1 + seed.wrapping_mul(index + 7).rotate_right(9) % most;
        assert!(frames(data, false, cut) == whole, "in pieces of up to {most}");
        assert!(frames(data, true, cut) == whole, "in pieces of up to {most} where they landed");
    }
}

/// What came out, and whether the stream failed. Pongs are left out: a ping that comes in halves is
/// told as a pong first. `landed`: pieces are framed where they lie, else they are taken in first.
fn frames(stream: &[u8], landed: bool, cut: impl Fn(usize) -> usize) -> (Vec<Frame>, bool) {
    let mut framer = Framer::new(LIMITS);
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut index = 0;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(cut(index).min(rest.len()));
        rest = after;
        index += 1;
        if !landed {
            framer.push(std::mem::take(&mut piece));
        }
        loop {
            match framer.next_landed(&mut piece, Bytes::copy_from_slice) {
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.buffered(), 0, "nothing is kept of a stream that failed");
                    assert_eq!(framer.next(), Err(error), "it stays failed");
                    return (frames, true);
                }
            }
        }
        assert!(framer.buffered() <= LIMITS.message, "{} octets wait", framer.buffered());
    }
    (frames, false)
}
