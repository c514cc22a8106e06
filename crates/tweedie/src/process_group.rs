//! Processes that work together, each with the same program: a training splits the rows of every
//! batch over them, samples and scores are split by batches.
//!
//! The engine is LibTorch's own, c10d, and so is the environment that tells a process who it is
//! (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`): PyTorch's launcher `torchrun`
//! sets it, over machines too. Every process makes the same calls in the same order; rank 0, the
//! *leader*, keeps the run directory and speaks.
//!
//! A process that dies or hangs is noticed by the others: at once where its connections are closed,
//! else within the timeout. They then fail with [`Error::Group`], which names it.
//!
//! ```
//! use std::time::Duration;
//! use tweedie::process_group::{Member, ProcessGroup};
//! use tweedie::tch::Tensor;
//!
//! # fn main() -> tweedie::Result<()> {
//! // two threads here, where a program has two processes
//! let port = Member::free_port()?;
//! let sum = move |rank| {
//!     let member = Member { rank, size: 2, port, ..Member::default() };
//!     let group = ProcessGroup::join(&member, Duration::from_secs(60))?;
//!     let mut numbers = Tensor::from_slice(&[1.0, rank as f64]);
//!     group.sum(&mut numbers)?;
//!     Ok::<_, tweedie::Error>(numbers)
//! };
//! let other = std::thread::spawn(move || sum(1));
//! assert_eq!(sum(0)?, Tensor::from_slice(&[2.0, 1.0]));
//! assert_eq!(other.join().unwrap()?, Tensor::from_slice(&[2.0, 1.0]));
//! # Ok(())
//! # }
//! ```

mod c10d;
mod health;
mod member;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::panic_text;
use crate::tensor::to_vec;
use crate::{Error, Result};
use c10d::{Collectives, Store};
use health::Health;
pub use member::Member;

/// The processes that work together, as one of them sees them; or one process alone, for which
/// everything here is there already.
#[derive(Clone, Default)]
pub struct ProcessGroup(Option<Arc<Joined>>);

/// A process in its group.
struct Joined {
    member: Member,
    timeout: Duration,
    store: Store,
    /// Of tensors on the CPU.
    collectives: Mutex<Collectives>,
    /// Of tensors on CUDA devices, from their first use on.
    on_devices: Mutex<Option<Collectives>>,
    health: Health,
    /// Works of the leader so far, which others wait for.
    works: AtomicU64,
}

impl Joined {
    /// Waits until the others have heard of the work `key`, for a little.
    fn wait_until_heard(&self, key: &str) {
        let begun = Instant::now();
        let mut others = (1..self.member.size).map(|rank| heard_by(key, rank));
        let heard = |key: String| {
            while !matches!(self.store.get(&key), Ok(Some(_))) {
                if begun.elapsed() > HEARING {
                    return false;
                }
                std::thread::sleep(LOOK);
            }
            true
        };
        let _ = others.all(heard);
    }

    /// The collectives of tensors on CUDA devices, opened at their first use.
    fn on_devices(&self) -> c10d::Result<MutexGuard<'_, Option<Collectives>>> {
        let mut opened = self.on_devices.lock().expect("whoever held it is done");
        if opened.is_none() {
            let Member { rank, size, .. } = self.member;
            *opened = Some(Collectives::open(&self.store, true, (rank, size), self.timeout)?);
        }
        Ok(opened)
    }
}

/// Where a process says that it has heard of the leader's work `key`.
fn heard_by(key: &str, rank: usize) -> String {
    format!("{key} heard by {rank}")
}

/// What a leader whose work has failed waits for others to hear why, before it may be gone.
const HEARING: Duration = Duration::from_secs(2);
/// How often a process that waits for the leader's work looks for it.
const LOOK: Duration = Duration::from_millis(20);

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ProcessGroup(rank {} of {})", self.rank(), self.size())
    }
}

impl ProcessGroup {
    /// One process.
    pub fn alone() -> ProcessGroup {
        ProcessGroup(None)
    }

    /// The group of `member`, once all others are there. What a collective waits for is given up
    /// after `timeout`.
    ///
    /// # Errors
    /// [`Error::Group`] if they do not come together in time.
    pub fn join(member: &Member, timeout: Duration) -> Result<ProcessGroup> {
        let Member { rank, size, .. } = *member;
        let failed = |problem: String| Error::Group {
            rank,
            problem: format!("no group of {size} processes: {problem}"),
            remedy: "check that all are started, and MASTER_ADDR and MASTER_PORT".into(),
        };
        let store = member.store(timeout).map_err(failed)?;
        let beats = member.client(timeout).map_err(failed)?;
        let health = Health::of(member, timeout, beats);
        // the rest of the time is for finding out which process is to blame
        let wait = timeout.mul_f64(0.8);
        let collectives = Collectives::open(&store, false, (rank, size), wait).map_err(failed)?;
        let member = member.clone();
        Ok(ProcessGroup(Some(Arc::new(Joined {
            member,
            timeout,
            store,
            collectives: Mutex::new(collectives),
            on_devices: Mutex::new(None),
            health,
            works: AtomicU64::new(0),
        }))))
    }

    /// The group that the environment describes: none where `WORLD_SIZE` is not set, or 1.
    ///
    /// # Errors
    /// [`Error::Config`] if a variable is no number or one is missing; as [`ProcessGroup::join`].
    pub fn of_environment(timeout: Duration) -> Result<ProcessGroup> {
        match Member::of_environment()? {
            Some(member) => ProcessGroup::join(&member, timeout),
            None => Ok(ProcessGroup::alone()),
        }
    }

    /// The number of this process among all, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |joined| joined.member.rank)
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |joined| joined.member.size)
    }

    /// Whether there is no other process.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this process keeps what is found and speaks: rank 0, or one alone.
    pub fn is_leader(&self) -> bool {
        self.rank() == 0
    }

    /// The device of this process: of `cuda` without a number that of its own number among the
    /// processes of its machine.
    pub fn device_name(&self, name: &str) -> String {
        match &self.0 {
            Some(joined) if name == "cuda" => format!("cuda:{}", joined.member.local_rank),
            _ => name.to_owned(),
        }
    }

    /// The part of `count` units that is this process's: parts follow one another, and no two
    /// differ by more than one.
    pub fn part(&self, count: usize) -> Range<usize> {
        let (rank, size) = (self.rank(), self.size());
        let start = |rank: usize| (count as u128 * rank as u128 / size as u128) as usize;
        start(rank)..start(rank + 1)
    }

    /// Sums a tensor over all processes, in place: on the CPU by Gloo, on CUDA devices by NCCL.
    ///
    /// # Errors
    /// [`Error::Group`] if a process is gone or does not answer.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<()> {
        self.collective(tensor.device(), |collectives| collectives.sum(tensor))
    }

    /// Overwrites a tensor by the leader's.
    ///
    /// # Errors
    /// As [`ProcessGroup::sum`].
    pub fn broadcast(&self, tensor: &mut Tensor) -> Result<()> {
        self.collective(tensor.device(), |collectives| collectives.broadcast(tensor, 0))
    }

    /// Whether `flag` is set in any process.
    ///
    /// # Errors
    /// As [`ProcessGroup::sum`].
    pub fn any(&self, flag: bool) -> Result<bool> {
        if self.is_alone() {
            return Ok(flag);
        }
        let mut count = Tensor::from_slice(&[f64::from(u8::from(flag))]);
        self.sum(&mut count)?;
        Ok(count.double_value(&[0]) > 0.0)
    }

    /// The leader's `value`, in every process.
    ///
    /// # Errors
    /// As [`ProcessGroup::sum`].
    pub fn share<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<T> {
        if self.is_alone() {
            return Ok(value);
        }
        let own = if self.is_leader() { pack(&value) } else { Vec::new() };
        unpack(&self.share_bytes(own)?)
    }

    /// The `bytes` of the leader, in every process.
    ///
    /// # Errors
    /// As [`ProcessGroup::sum`].
    pub fn share_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.is_alone() {
            return Ok(bytes);
        }
        let mut count = Tensor::from_slice(&[bytes.len() as i64]);
        self.broadcast(&mut count)?;
        let count = count.int64_value(&[0]);
        let mut all = match self.is_leader() {
            true => Tensor::from_slice(&bytes),
            false => Tensor::zeros([count], (Kind::Uint8, Device::Cpu)),
        };
        if count > 0 {
            self.broadcast(&mut all)?;
        }
        Ok(if self.is_leader() { bytes } else { bytes_of(&all) })
    }

    /// The `value` of every process, by rank.
    ///
    /// # Errors
    /// As [`ProcessGroup::sum`].
    pub fn gather<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<Vec<T>> {
        if self.is_alone() {
            return Ok(vec![value]);
        }
        self.gather_bytes(&pack(&value))?.iter().map(|bytes| unpack(bytes)).collect()
    }

    /// The `bytes` of every process, by rank.
    fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let size = self.size();
        let counts = self.gather_equal(&Tensor::from_slice(&[bytes.len() as i64]))?;
        let counts: Vec<i64> = (0..size).map(|rank| counts.int64_value(&[rank as i64])).collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        if most == 0 {
            return Ok(vec![Vec::new(); size]);
        }
        let own = Tensor::zeros([most], (Kind::Uint8, Device::Cpu));
        own.narrow(0, 0, bytes.len() as i64).copy_(&Tensor::from_slice(bytes));
        let all = self.gather_equal(&own)?;
        let part =
            |(rank, &count): (usize, &i64)| bytes_of(&all.narrow(0, rank as i64 * most, count));
        Ok(counts.iter().enumerate().map(part).collect())
    }

    /// Tensors `[n]` of every process, `[size·n]`.
    fn gather_equal(&self, own: &Tensor) -> Result<Tensor> {
        let mut own = own.shallow_clone();
        let mut all = own.repeat([self.size() as i64]);
        self.collective(own.device(), |collectives| collectives.gather(&mut all, &mut own))?;
        Ok(all)
    }

    /// The units `0..count` of work, given to the processes in turn: what `work` makes of each, in
    /// their order, handed to `take` in every process. One that fails ends all.
    ///
    /// # Errors
    /// As `work`, in the process that failed, and [`Error::Group`] in the others; as `take`; as
    /// [`ProcessGroup::sum`].
    pub fn distribute<T: Serialize + DeserializeOwned>(
        &self,
        count: usize,
        mut work: impl FnMut(usize) -> Result<T>,
        mut take: impl FnMut(usize, T) -> Result<()>,
    ) -> Result<()> {
        if self.is_alone() {
            return (0..count).try_for_each(|unit| take(unit, work(unit)?));
        }
        let size = self.size();
        for first in (0..count).step_by(size) {
            let unit = first + self.rank();
            let own = (unit < count).then(|| work(unit)).transpose();
            let text = own.as_ref().err().map(ToString::to_string);
            let (own, failed) = match own {
                Ok(own) => (own, None),
                Err(error) => (None, Some(error)),
            };
            let all = self.gather((own, text));
            if let Some(error) = failed {
                return Err(error);
            }
            for (rank, (found, text)) in all?.into_iter().enumerate() {
                if let Some(problem) = text {
                    return Err(Error::of_rank(rank, problem));
                }
                found.map_or(Ok(()), |found| take(first + rank, found))?;
            }
        }
        Ok(())
    }

    /// What the leader's `work` returns, in every process. See [`ProcessGroup::lead`].
    ///
    /// # Errors
    /// As [`ProcessGroup::lead`].
    pub fn by_leader<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let found = self.lead(work)?;
        self.share(found).map(|found| found.expect("the leader has it"))
    }

    /// What the leader's `work` returns, in the leader: the others wait as long as it takes, and as
    /// long as the leader is alive.
    ///
    /// # Errors
    /// As `work` in the leader, and [`Error::Group`] in the others.
    pub fn lead<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let Some(joined) = &self.0 else { return work().map(Some) };
        let number = joined.works.fetch_add(1, Ordering::Relaxed);
        let key = format!("work {number}");
        if self.is_leader() {
            let found = work();
            let text = found.as_ref().err().map(ToString::to_string);
            let told = joined.store.set(&key, &pack(&text));
            if found.is_err() {
                joined.wait_until_heard(&key);
            }
            let found = found?;
            told.map_err(|problem| self.failure(&problem))?;
            return Ok(Some(found));
        }
        let mut heard = Instant::now();
        let text: Option<String> = loop {
            match joined.store.get(&key) {
                Ok(Some(bytes)) => {
                    let _ = joined.store.set(&heard_by(&key, self.rank()), &[]);
                    break unpack(&bytes)?;
                }
                Ok(None) => (),
                Err(problem) => return Err(self.failure(&problem)),
            }
            if heard.elapsed() > joined.timeout / 2 {
                joined.health.check(&joined.store)?;
                heard = Instant::now();
            }
            std::thread::sleep(LOOK);
        };
        match text {
            Some(problem) => Err(Error::of_rank(0, problem)),
            None => Ok(None),
        }
    }

    /// What `work` returns; if it fails or panics in this process alone it is reported to the others.
    ///
    /// # Errors
    /// As `work`.
    pub fn reporting<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(joined) = &self.0 else { return work() };
        let done = catch_unwind(AssertUnwindSafe(work));
        let problem = match &done {
            Ok(Err(Error::Group { .. }) | Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(format!("internal: {}", panic_text(&**panic))),
        };
        if let Some(problem) = problem {
            // whoever can no longer be told finds out by itself
            let _ = joined.health.report(&joined.store, &problem);
        }
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Does `work` by the collectives of tensors on `device`.
    fn collective(
        &self,
        device: Device,
        work: impl FnOnce(&Collectives) -> c10d::Result<()>,
    ) -> Result<()> {
        let Some(joined) = &self.0 else { return Ok(()) };
        joined.health.enter();
        let done = match device {
            Device::Cpu => work(&joined.collectives.lock().expect("whoever held it is done")),
            _ => joined
                .on_devices()
                .and_then(|of_devices| work(of_devices.as_ref().expect("they were opened"))),
        };
        done.map_err(|problem| self.failure(&problem))
    }

    /// Why a collective failed: which process is to blame.
    fn failure(&self, problem: &str) -> Error {
        let joined = self.0.as_ref().expect("a process alone waits for nobody");
        joined.health.blame(&joined.store, problem)
    }
}

/// A tensor that crosses to other processes, or stays as it is in one.
#[derive(Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub(crate) struct Parcel(Tensor);

/// What of a tensor crosses.
#[derive(Serialize, Deserialize)]
struct Numbers {
    shape: Vec<i64>,
    single: bool,
    values: Vec<f64>,
}

impl Parcel {
    /// A tensor in f32 or f64.
    pub fn of(tensor: Tensor) -> Parcel {
        Parcel(tensor)
    }

    /// The tensor, on `device`.
    pub fn unpacked(self, device: Device) -> Tensor {
        self.0.to_device(device)
    }
}

impl Clone for Parcel {
    fn clone(&self) -> Parcel {
        Parcel(self.0.shallow_clone())
    }
}

impl From<Parcel> for Numbers {
    fn from(Parcel(tensor): Parcel) -> Numbers {
        let single = tensor.kind() == Kind::Float;
        Numbers { shape: tensor.size(), single, values: to_vec(&tensor) }
    }
}

impl From<Numbers> for Parcel {
    fn from(Numbers { shape, single, values }: Numbers) -> Parcel {
        let kind = if single { Kind::Float } else { Kind::Double };
        Parcel(Tensor::from_slice(&values).to_kind(kind).view(&shape[..]))
    }
}

/// A value as bytes.
fn pack(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("values in memory have bytes")
}

/// A value of bytes that another process has made.
fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|problem| Error::Group {
        rank: 0,
        problem: format!("a message cannot be read: {problem}"),
        remedy: "run the same version of the program in every process".into(),
    })
}

/// The bytes of a tensor of them.
fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0u8; tensor.numel()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

#[cfg(test)]
mod tests;
