//! [`Writer`]: the thread that owns the store and commits whatever waits as one group.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::{Builder, JoinHandle};

use crate::directory::record::Failed;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::store::Store;
use crate::store::waiting::{Waiting, is_urgent};

/// Called once for every submitted record, with its ticket; on the writer's thread, or on the
/// submitter's when the record is refused at once. Must not wait for anything.
pub type Answer = Box<dyn Fn(u64, Recorded) + Send + Sync>;

/// Bounds of the writer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that may wait; beyond, bindings are shed. Records that change a user are shed only
    /// beyond twice as many, so that a flood of bindings stops no relocation.
    pub waiting: usize,
    /// Records of one commit.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { waiting: 65_536, batch: 4096 }
    }
}

/// The writing thread. Dropping it commits what waits, then closes the store.
#[derive(Debug)]
pub struct Writer {
    handle: WriterHandle,
    thread: Option<JoinHandle<()>>,
}

/// Where records are handed in; clone it freely.
#[derive(Clone)]
pub struct WriterHandle {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    answer: Answer,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Waiting,
    closed: bool,
}

impl Writer {
    /// Starts the thread. Fails only if the system gives no thread.
    pub fn start(
        store: Box<dyn Store>,
        limits: Limits,
        answer: Answer,
    ) -> io::Result<(Self, WriterHandle)> {
        let shared =
            Arc::new(Shared { limits, answer, queue: Mutex::default(), wake: Condvar::new() });
        let handle = WriterHandle { shared: Arc::clone(&shared) };
        let thread = Builder::new().name("store".to_owned()).spawn(move || run(store, &shared))?;
        Ok((Self { handle: handle.clone(), thread: Some(thread) }, handle))
    }

    /// Commits what waits, answers it, closes the store and ends the thread. What is submitted
    /// later is answered [`Recorded::Failed`].
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.handle.shared.lock().closed = true;
        self.handle.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been answered for already.
            let _panicked = thread.join();
        }
    }
}

impl WriterHandle {
    /// Hands a record in; never waits for the disk. Every record is answered exactly once.
    pub fn submit(&self, record: Record) {
        let ticket = record.ticket;
        if let Err(failed) = self.shared.push(record) {
            (self.shared.answer)(ticket, Recorded::Failed(failed));
        }
    }

    /// How many records wait for the next commit.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }
}

impl std::fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterHandle").field("waiting", &self.waiting()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: Record) -> Result<(), Failed> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(closed());
        }
        let waiting = queue.waiting.len();
        let room = match is_urgent(&record) {
            true => self.limits.waiting.saturating_mul(2),
            false => self.limits.waiting,
        };
        if waiting >= room {
            return Err(Failed::Overloaded(waiting));
        }
        queue.waiting.push(record);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// The next batch; `None` when the writer is closed and nothing waits.
    fn next(&self) -> Option<Vec<Record>> {
        let mut queue = self.lock();
        while queue.waiting.len() == 0 && !queue.closed {
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let batch = queue.waiting.take(self.limits.batch.max(1));
        (!batch.is_empty()).then_some(batch)
    }
}

fn run(mut store: Box<dyn Store>, shared: &Shared) {
    let _closing = Closing(shared);
    while let Some(batch) = shared.next() {
        let mut unanswered =
            Unanswered { shared, tickets: batch.iter().map(|record| record.ticket).collect() };
        for recorded in store.commit(&batch) {
            if let Some(ticket) = unanswered.tickets.pop_front() {
                (shared.answer)(ticket, recorded);
            }
        }
    }
}

/// Answers what is left of a batch if the store panics.
struct Unanswered<'a> {
    shared: &'a Shared,
    tickets: VecDeque<u64>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        for ticket in self.tickets.drain(..) {
            (self.shared.answer)(ticket, Recorded::Failed(closed()));
        }
    }
}

/// Answers what still waits when the thread ends, and lets nothing new in.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.0.lock();
            queue.closed = true;
            queue.waiting.take(usize::MAX)
        };
        for record in left {
            (self.0.answer)(record.ticket, Recorded::Failed(closed()));
        }
    }
}

fn closed() -> Failed {
    Failed::Io(Arc::from("it is closed"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::directory::record::Loaded;
    use crate::store::contract::{add, binding, content, forget, put, record, relocate, user};
    use crate::store::{Embedded, FileDisk, Memory, OpenError, Settings};

    /// A store that waits for a word before each commit and tells what it is given.
    struct Gated {
        store: Memory,
        go: Receiver<()>,
        given: Sender<Vec<u64>>,
        panics: bool,
    }

    impl Store for Gated {
        fn load(&mut self) -> Result<Loaded, OpenError> {
            self.store.load()
        }

        fn commit(&mut self, batch: &[Record]) -> Vec<Recorded> {
            self.given.send(batch.iter().map(|record| record.ticket).collect()).unwrap();
            self.go.recv().unwrap();
            assert!(!self.panics, "told to");
            self.store.commit(batch)
        }
    }

    struct Bench {
        writer: Writer,
        handle: WriterHandle,
        go: Sender<()>,
        given: Receiver<Vec<u64>>,
        answers: Receiver<(u64, Recorded)>,
    }

    fn bench(limits: Limits, panics: bool) -> Bench {
        let (go, gate) = channel();
        let (give, given) = channel();
        let (answer, answers) = channel();
        let store = Gated { store: Memory::new(), go: gate, given: give, panics };
        let answer: Answer =
            Box::new(move |ticket, recorded| answer.send((ticket, recorded)).unwrap());
        let (writer, handle) = Writer::start(Box::new(store), limits, answer).unwrap();
        Bench { writer, handle, go, given, answers }
    }

    impl Bench {
        /// Keeps the thread busy, so that what follows has to wait.
        fn occupy(&self) {
            self.handle.submit(record(0, []));
            assert_eq!(self.given.recv(), Ok(vec![0]));
        }
    }

    #[test]
    fn what_waits_is_one_commit_with_the_users_first() {
        let bench = bench(Limits { waiting: 100, batch: 3 }, false);
        bench.occupy();
        bench.handle.submit(record(1, [put(binding(1, "anna"))]));
        bench.handle.submit(record(2, [put(binding(2, "anna"))]));
        bench.handle.submit(record(3, [add("anna")]));
        bench.handle.submit(record(4, [relocate("anna", 7)]));
        assert_eq!(bench.handle.waiting(), 4);
        for _ in 0..3 {
            bench.go.send(()).unwrap();
        }
        assert_eq!(bench.given.recv(), Ok(vec![3, 4, 1]));
        assert_eq!(bench.given.recv(), Ok(vec![2]));
        let answers: Vec<(u64, Recorded)> = bench.answers.iter().take(5).collect();
        let conflict = Recorded::Conflict(vec![user("anna", 1)]);
        let expected = [(0, Recorded::Done), (3, Recorded::Done), (4, conflict)];
        assert_eq!(answers[..3], expected);
        assert_eq!(answers[3..], [(1, Recorded::Done), (2, Recorded::Done)]);
    }

    #[test]
    fn beyond_the_limit_bindings_are_shed_first() {
        let bench = bench(Limits { waiting: 2, batch: 100 }, false);
        bench.occupy();
        let overloaded = |count| Recorded::Failed(Failed::Overloaded(count));
        for ticket in 1..=3 {
            bench.handle.submit(record(ticket, [forget(ticket)]));
        }
        assert_eq!(bench.answers.recv(), Ok((3, overloaded(2))));
        for ticket in 4..=6 {
            bench.handle.submit(record(ticket, [add("anna")]));
        }
        assert_eq!(bench.answers.recv(), Ok((6, overloaded(4))));
        bench.go.send(()).unwrap();
        bench.go.send(()).unwrap();
        assert_eq!(bench.given.recv(), Ok(vec![4, 5, 1, 2]));
    }

    #[test]
    fn stopping_commits_what_waits_and_refuses_what_comes_later() {
        let bench = bench(Limits::default(), false);
        bench.occupy();
        bench.handle.submit(record(1, [add("anna")]));
        bench.go.send(()).unwrap();
        bench.go.send(()).unwrap();
        bench.writer.stop();
        bench.handle.submit(record(2, [add("bert")]));
        let answers: Vec<(u64, Recorded)> = bench.answers.try_iter().collect();
        assert_eq!(answers[..2], [(0, Recorded::Done), (1, Recorded::Done)]);
        assert!(matches!(answers[2..], [(2, Recorded::Failed(Failed::Io(_)))]), "{answers:?}");
    }

    #[test]
    fn a_store_that_panics_leaves_nobody_without_an_answer() {
        let bench = bench(Limits { waiting: 100, batch: 2 }, true);
        bench.occupy();
        for ticket in 1..=3 {
            bench.handle.submit(record(ticket, [forget(ticket)]));
        }
        bench.go.send(()).unwrap();
        bench.writer.stop();
        bench.handle.submit(record(4, []));
        let answers: Vec<(u64, Recorded)> = bench.answers.try_iter().collect();
        let tickets: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, [0, 1, 2, 3, 4]);
        assert!(answers.iter().all(|(_, it)| matches!(it, Recorded::Failed(Failed::Io(_)))));
    }

    #[test]
    fn from_many_threads_every_record_is_answered_once() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let disk = FileDisk::new(directory.path().join("store"));
            Embedded::open(disk, Settings::default()).unwrap()
        };
        let (answer, answers) = channel();
        let answer: Answer = Box::new(move |ticket, it| answer.send((ticket, it)).unwrap());
        let (writer, handle) = Writer::start(Box::new(open()), Limits::default(), answer).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let handle = handle.clone();
                scope.spawn(move || {
                    for ticket in thread * 1000..thread * 1000 + 250 {
                        handle.submit(record(ticket, [put(binding(ticket, "anna"))]));
                    }
                });
            }
        });
        writer.stop();
        let mut tickets: Vec<u64> = answers
            .try_iter()
            .map(|(ticket, recorded)| {
                assert_eq!(recorded, Recorded::Done);
                ticket
            })
            .collect();
        tickets.sort_unstable();
        let expected: Vec<u64> = (0..4).flat_map(|it| it * 1000..it * 1000 + 250).collect();
        assert_eq!(tickets, expected);
        let stored = content(&mut open()).1;
        assert!(stored.iter().map(|binding| binding.id).eq(expected));
    }
}
