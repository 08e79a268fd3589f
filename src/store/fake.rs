//! [`FakeDisk`]: a disk in memory that is as small, as broken or as suddenly dark as a test wants.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use redb::StorageBackend;

use crate::store::ballast::slack_bytes;
use crate::store::{Disk, OpenError};

const BLOCK_BYTES: u64 = 4096;

/// A disk that all its clones share, as a restarted process would.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    image: Vec<u8>,
    blocks: BTreeSet<u64>,
    capacity_bytes: Option<u64>,
    held_bytes: u64,
    operations: u64,
    fault: Option<Fault>,
    journal: Option<Vec<Step>>,
}

/// A planned failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// The first operation (read, write, resize, flush; counted from 1) that fails.
    pub(super) from: u64,
    /// How many fail.
    pub(super) count: u64,
    pub(super) kind: io::ErrorKind,
}

/// What happened on the disk, for cutting the power afterwards.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(u64, Vec<u8>),
    Resize(u64),
    Flush,
    /// [`FakeDisk::note`].
    Note(usize),
}

impl FakeDisk {
    /// A disk that holds this already.
    pub(super) fn with(image: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.lock().image = image;
        disk
    }

    pub(super) fn image(&self) -> Vec<u8> {
        self.lock().image.clone()
    }

    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(super) fn plan(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// How many bytes are really taken, the reserve included.
    pub(super) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// From now on the disk is so large.
    pub(super) fn limit(&self, capacity_bytes: u64) {
        self.lock().capacity_bytes = Some(capacity_bytes);
    }

    pub(super) fn start_journal(&self) {
        self.lock().journal = Some(Vec::new());
    }

    /// Leaves a mark in the journal.
    pub(super) fn note(&self, mark: usize) {
        self.lock().log(Step::Note(mark));
    }

    pub(super) fn take_journal(&self) -> Vec<Step> {
        self.lock().journal.take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Disk for FakeDisk {
    type Backend = FakeBackend;

    fn path(&self) -> &Path {
        Path::new("fake")
    }

    fn open(&mut self) -> Result<FakeBackend, OpenError> {
        Ok(FakeBackend(self.clone()))
    }

    fn held_bytes(&self) -> u64 {
        self.lock().held_bytes
    }

    fn hold(&mut self, bytes: u64) -> Result<bool, OpenError> {
        let mut state = self.lock();
        let more = bytes.saturating_sub(state.held_bytes);
        let fits = state.fits(more + if more > 0 { slack_bytes(bytes) } else { 0 });
        if fits {
            state.held_bytes = bytes;
        }
        Ok(fits)
    }

    fn release(&mut self) {
        self.lock().held_bytes = 0;
    }
}

#[derive(Debug)]
pub(super) struct FakeBackend(FakeDisk);

impl StorageBackend for FakeBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.count()?;
        let from = offset as usize;
        let bytes = state.image.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.count()?;
        state.image.resize(len as usize, 0);
        state.blocks.split_off(&len.div_ceil(BLOCK_BYTES));
        state.log(Step::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.count()?;
        state.log(Step::Flush);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.count()?;
        let from = offset as usize;
        let blocks = offset / BLOCK_BYTES..(offset + data.len() as u64).div_ceil(BLOCK_BYTES);
        let new = blocks.clone().filter(|block| !state.blocks.contains(block)).count() as u64;
        if !state.fits(new * BLOCK_BYTES) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.blocks.extend(blocks);
        state.image[from..from + data.len()].copy_from_slice(data);
        state.log(Step::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.held_bytes + self.blocks.len() as u64 * BLOCK_BYTES
    }

    fn fits(&self, more: u64) -> bool {
        more == 0 || self.capacity_bytes.is_none_or(|capacity| self.used_bytes() + more <= capacity)
    }

    fn count(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Some(Fault { from, count, kind })
                if (from..from.saturating_add(count)).contains(&self.operations) =>
            {
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }

    fn log(&mut self, step: Step) {
        if let Some(journal) = &mut self.journal {
            journal.push(step);
        }
    }
}

/// What is found after a power cut at every instant of a journal, by the last mark before it: what was
/// flushed, and of the rest whatever chance left, torn at a sector.
pub(super) fn cut_power(
    mut durable: Vec<u8>,
    journal: &[Step],
    found: &mut dyn FnMut(usize, FakeDisk),
) {
    let mut random = fastrand::Rng::with_seed(20_241_122);
    let mut acknowledged = 0;
    let mut unflushed: Vec<&Step> = Vec::new();
    for step in journal {
        match step {
            Step::Note(mark) => acknowledged = *mark,
            Step::Flush => unflushed.drain(..).for_each(|step| replay(&mut durable, step, None)),
            Step::Write(..) | Step::Resize(_) => unflushed.push(step),
        }
        let mut image = durable.clone();
        for step in &unflushed {
            if random.bool() {
                replay(&mut image, step, Some(&mut random));
            }
        }
        found(acknowledged, FakeDisk::with(image));
    }
}

/// Does a step again; a torn write stops at a sector.
fn replay(image: &mut Vec<u8>, step: &Step, torn: Option<&mut fastrand::Rng>) {
    match step {
        Step::Write(offset, data) => {
            let from = *offset as usize;
            let sectors = data.len().div_ceil(512);
            let kept = torn.map_or(sectors, |random| random.usize(0..=sectors)) * 512;
            let data = &data[..kept.min(data.len())];
            if image.len() < from + data.len() {
                image.resize(from + data.len(), 0);
            }
            image[from..from + data.len()].copy_from_slice(data);
        }
        Step::Resize(length) => image.resize(*length as usize, 0),
        Step::Flush | Step::Note(_) => {}
    }
}
