//! The same octets on a stream: one after the other, cut anywhere.

use bytes::Bytes;
use frontdoor::sip::framing::{Frame, FrameError, Framer, Limits};

use crate::torture::datagram;
use crate::torture::table::MESSAGES;

/// Random cuts of the whole stream.
const CUTS: u32 = 200;

#[test]
fn each_alone_is_framed_as_the_table_says() {
    let mut wrong = Vec::new();
    for message in MESSAGES {
        let (frames, end) = frames([&datagram(message.file)[..]]);
        let told = tell(&frames, end);
        if told != message.stream {
            wrong.push(format!("{}: {told}, not {}", message.file, message.stream));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn each_is_framed_the_same_wherever_it_is_cut() {
    for message in MESSAGES {
        let bytes = datagram(message.file);
        let whole = without_pongs(frames([&bytes[..]]));
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(without_pongs(frames([head, tail])), whole, "{} at {at}", message.file);
        }
        assert_eq!(without_pongs(frames(bytes.chunks(1))), whole, "{} by octets", message.file);
    }
}

#[test]
fn all_that_can_be_framed_come_through_one_pipeline_however_it_is_cut() {
    let whole: Vec<Bytes> = (MESSAGES.iter())
        .filter(|message| message.stream == "message")
        .map(|message| datagram(message.file))
        .collect();
    assert!(whole.len() >= 50, "{}", whole.len());
    let stream = whole.concat();
    let expected: Vec<Frame> = whole.into_iter().map(Frame::Message).collect();
    let expected = (expected, None);
    assert!(frames([&stream[..]]) == expected, "in one piece");
    assert!(frames(stream.chunks(1)) == expected, "octet by octet");
    let mut rng = fastrand::Rng::with_seed(4475);
    for _ in 0..CUTS {
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(4096)));
            pieces.push(piece);
            rest = after;
        }
        let cuts: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert!(frames(pieces) == expected, "in pieces of {cuts:?}");
    }
}

/// Pushes the pieces, draining after each.
fn frames<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut framer = Framer::new(Limits::default());
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(framer.buffered() <= Limits::default().message);
    }
    if framer.buffered() > 0 {
        frames.push(Frame::Message(Bytes::from_static(b"waits")));
    }
    (frames, None)
}

/// A ping that comes in halves is told as a pong first, so pongs depend on the cuts.
fn without_pongs(
    (mut frames, end): (Vec<Frame>, Option<FrameError>),
) -> (Vec<Frame>, Option<FrameError>) {
    frames.retain(|frame| *frame != Frame::Pong);
    (frames, end)
}

fn tell(frames: &[Frame], end: Option<FrameError>) -> String {
    let mut told: Vec<String> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Message(bytes) if bytes == "waits" => "waits".into(),
            Frame::Message(_) => "message".into(),
            Frame::Ping => "ping".into(),
            Frame::Pong => "pong".into(),
        })
        .collect();
    told.extend(end.map(|error| format!("{error:?}")));
    told.join(", ")
}
