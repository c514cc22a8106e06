//! Whether the processes of a group are alive, and which one is to blame where work failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::c10d::{Result as Found, Store};
use super::member::Member;
use crate::{Error, Result};

/// Signs of life of a process, and what it finds of the others'.
pub(super) struct Health {
    rank: usize,
    size: usize,
    timeout: Duration,
    /// Collectives that this process has begun.
    entered: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

/// What a process has shown of itself: how often, and the collectives it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sign {
    beats: u64,
    entered: u64,
}

impl Sign {
    fn bytes(self) -> Vec<u8> {
        [self.beats, self.entered].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn read(bytes: &[u8]) -> Sign {
        let number = |at: usize| {
            bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().expect("eight")))
        };
        Sign { beats: number(0), entered: number(8) }
    }
}

/// The time between two signs of life.
fn interval(timeout: Duration) -> Duration {
    (timeout / 20).clamp(Duration::from_millis(50), Duration::from_secs(5))
}

fn alive(rank: usize) -> String {
    format!("alive {rank}")
}

fn failed(rank: usize) -> String {
    format!("failed {rank}")
}

/// Where the number of the process that is to blame is kept and what is known of it, by whoever
/// notices it first: those who notice end, and must not be taken for the cause.
const BLAMED: &str = "blamed";

impl Drop for Health {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
    }
}

impl Health {
    /// Shows signs of life in `store`, a connection of their own, as long as this exists.
    pub fn of(member: &Member, timeout: Duration, store: Store) -> Health {
        let entered = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel::<()>();
        let (key, counter) = (alive(member.rank), entered.clone());
        let beats = std::thread::spawn(move || {
            for beats in 1.. {
                let sign = Sign { beats, entered: counter.load(Ordering::Relaxed) };
                // a store that is gone is noticed by whoever works
                let is_gone = store.set(&key, &sign.bytes()).is_err();
                let waited = stopped.recv_timeout(interval(timeout));
                if is_gone || waited != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        });
        Health {
            rank: member.rank,
            size: member.size,
            timeout,
            entered,
            stop: Some(stop),
            beats: Some(beats),
        }
    }

    /// Takes note that a collective begins.
    pub fn enter(&self) {
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the others why this process fails.
    pub fn report(&self, store: &Store, problem: &str) -> Found<()> {
        store.set(&failed(self.rank), problem.as_bytes())
    }

    /// The processes other than this one.
    fn others(&self) -> impl Iterator<Item = usize> {
        let own = self.rank;
        (0..self.size).filter(move |&rank| rank != own)
    }

    /// What a process has told of its failure, or another one of it, if any has.
    fn told(&self, store: &Store) -> Found<Option<Error>> {
        let blamed = store.get(BLAMED)?.and_then(|text| String::from_utf8(text).ok());
        if let Some((rank, problem)) = blamed.as_ref().and_then(|text| text.split_once(' ')) {
            return Ok(rank.parse().ok().map(|rank| blamed_for(rank, problem.into())));
        }
        for rank in self.others() {
            if let Some(text) = store.get(&failed(rank))? {
                let problem = String::from_utf8_lossy(&text).into_owned();
                return Ok(Some(Error::of_rank(rank, problem)));
            }
        }
        Ok(None)
    }

    fn signs(&self, store: &Store) -> Found<Vec<(usize, Sign)>> {
        let sign = |rank| {
            Ok((rank, store.get(&alive(rank))?.map_or_else(Sign::default, |b| Sign::read(&b))))
        };
        self.others().map(sign).collect()
    }

    /// The processes that show no sign of life while one would show some.
    fn silent(&self, store: &Store) -> Found<(Vec<usize>, Vec<(usize, Sign)>)> {
        let before = self.signs(store)?;
        std::thread::sleep(3 * interval(self.timeout));
        let after = self.signs(store)?;
        let same = before.iter().zip(&after).filter(|(b, a)| b.1.beats == a.1.beats);
        Ok((same.map(|(before, _)| before.0).collect(), after))
    }

    /// Fails if a process has failed, or shows no sign of life.
    pub fn check(&self, store: &Store) -> Result<()> {
        let found = self.told(store).and_then(|told| Ok((told, self.silent(store)?.0)));
        match found {
            Err(problem) => Err(self.store_is_gone(&problem)),
            Ok((Some(error), _)) => Err(error),
            Ok((None, silent)) => match silent.first() {
                None => Ok(()),
                Some(&rank) => Err(to_be_blamed(store, rank, SILENT.into())),
            },
        }
    }

    /// Which process is to blame for the failure `problem` of a collective.
    pub fn blame(&self, store: &Store, problem: &str) -> Error {
        match self.to_blame(store, problem) {
            Ok(error) => error,
            Err(problem) => self.store_is_gone(&problem),
        }
    }

    fn to_blame(&self, store: &Store, problem: &str) -> Found<Error> {
        if let Some(error) = self.told(store)? {
            return Ok(error);
        }
        let (silent, signs) = self.silent(store)?;
        // who has failed meanwhile has said so
        if let Some(error) = self.told(store)? {
            return Ok(error);
        }
        if let Some(&rank) = silent.first() {
            return Ok(to_be_blamed(store, rank, SILENT.into()));
        }
        let own = self.entered.load(Ordering::Relaxed);
        let behind = signs.iter().filter(|(_, sign)| sign.entered < own);
        Ok(match behind.min_by_key(|(_, sign)| sign.entered) {
            Some(&(rank, _)) => {
                let problem = format!("it lives, and has not come within {:?}", self.timeout);
                to_be_blamed(store, rank, problem)
            }
            None => Error::Group {
                rank: self.rank,
                problem: format!("its connection to the others failed: {problem}"),
                remedy: "see the messages of the others, and check the network".into(),
            },
        })
    }

    fn store_is_gone(&self, problem: &str) -> Error {
        Error::Group {
            rank: 0,
            problem: format!("it is gone, and with it the store of the group ({problem})"),
            remedy: "see its own messages; a training goes on from its last checkpoint".into(),
        }
    }
}

/// What is known of a process that shows no sign of life.
const SILENT: &str = "it has died or hangs: it shows no sign of life";

/// Notes for the others that process `rank` is to blame.
fn to_be_blamed(store: &Store, rank: usize, problem: String) -> Error {
    // whoever can no longer be told finds out by itself
    let _ = store.set(BLAMED, format!("{rank} {problem}").as_bytes());
    blamed_for(rank, problem)
}

fn blamed_for(rank: usize, problem: String) -> Error {
    let remedy = "see its own messages; a training goes on from its last checkpoint";
    Error::Group { rank, problem, remedy: remedy.into() }
}
