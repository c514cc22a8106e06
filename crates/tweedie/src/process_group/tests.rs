use super::*;

/// What `work` returns in each of `size` threads that are a group, by rank.
fn together<T: Send>(
    size: usize,
    timeout: Duration,
    work: impl Fn(ProcessGroup) -> T + Sync,
) -> Vec<T> {
    let port = Member::free_port().unwrap();
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..size)
            .map(|rank| {
                scope.spawn(move || {
                    let member = Member { rank, size, port, ..Member::default() };
                    work(ProcessGroup::join(&member, timeout).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn parts_cover_everything_once() {
    assert_eq!(ProcessGroup::alone().part(7), 0..7);
    let parts = together(3, MINUTE, |group| group.part(7));
    assert_eq!(parts, [0..2, 2..4, 4..7]);
    assert_eq!(together(3, MINUTE, |group| group.part(2).len()).iter().sum::<usize>(), 2);
}

#[test]
fn collectives_are_of_all_ranks() {
    let found = together(3, MINUTE, |group| {
        let rank = group.rank();
        let mut sum = Tensor::from_slice(&[1.0, rank as f64]);
        group.sum(&mut sum).unwrap();
        let mut of_leader = Tensor::from_slice(&[rank as f32 + 5.0]);
        group.broadcast(&mut of_leader).unwrap();
        let words = group.gather("x".repeat(rank)).unwrap();
        let shared = group.share((rank as u64, f64::NEG_INFINITY)).unwrap();
        let flags = (group.any(rank == 2).unwrap(), group.any(false).unwrap());
        let long = group.by_leader(|| Ok(group.rank())).unwrap();
        (crate::tensor::to_vec(&sum), of_leader.double_value(&[0]), words, shared, flags, long)
    });
    for (sum, of_leader, words, shared, flags, long) in found {
        assert_eq!((sum, of_leader), (vec![3.0, 3.0], 5.0));
        assert_eq!(words, ["", "x", "xx"]);
        assert_eq!((shared, flags, long), ((0, f64::NEG_INFINITY), (true, false), 0));
    }
}

/// Where LibTorch has no CUDA, or no device, that is what is said.
#[test]
fn nccl_is_looked_up_when_it_is_needed() {
    let errors = together(2, MINUTE, |group| {
        let joined = group.0.as_ref().unwrap();
        joined.on_devices().err()
    });
    // on a machine with a device per rank it opens
    for error in errors.into_iter().flatten() {
        let no_library = error == "the CUDA library of LibTorch has no NCCL";
        assert!(no_library || error.contains("no GPUs found"), "{error}");
    }
}

#[test]
fn work_is_distributed_and_taken_in_order() {
    let found = together(3, MINUTE, |group| {
        let (mut own, mut taken) = (Vec::new(), Vec::new());
        let work = |unit| {
            own.push(unit);
            Ok(unit * unit)
        };
        let take = |unit, value| {
            taken.push((unit, value));
            Ok(())
        };
        group.distribute(8, work, take).unwrap();
        (own, taken)
    });
    let all: Vec<(usize, usize)> = (0..8).map(|unit| (unit, unit * unit)).collect();
    for (rank, (own, taken)) in found.into_iter().enumerate() {
        assert!(own.iter().all(|unit| unit % 3 == rank), "{own:?}");
        assert_eq!(taken, all);
    }
}

/// One that fails ends all of them, with its own words.
#[test]
fn a_failure_is_reported_to_all() {
    let bad = || Error::numeric("a row is not finite", "look at it");
    let errors = together(2, MINUTE, |group| {
        let work = |unit| if unit == 3 { Err(bad()) } else { Ok(unit) };
        group.distribute(4, work, |_, _| Ok(())).unwrap_err().to_string()
    });
    assert_eq!(errors[1], bad().to_string());
    assert!(errors[0].starts_with(&format!("rank 1: {}", bad())), "{}", errors[0]);
    let errors = together(2, MINUTE, |group| {
        group.by_leader(|| Err::<(), _>(bad())).unwrap_err().to_string()
    });
    assert!(errors[1].starts_with(&format!("rank 0: {}", bad())), "{}", errors[1]);
}

/// Whoever waits for a process that has left, or does not come, ends within the timeout and names
/// it.
#[test]
fn a_process_that_is_gone_is_named() {
    let timeout = Duration::from_secs(8);
    let found = together(3, timeout, |group| {
        let begun = Instant::now();
        let mut sum = Tensor::from_slice(&[1.0]);
        group.sum(&mut sum).unwrap();
        if group.rank() == 1 {
            return None;
        }
        let error = group.sum(&mut sum).unwrap_err();
        // ranks leave after all have seen what they had to
        std::thread::sleep(Duration::from_secs(2));
        Some((error.to_string(), begun.elapsed()))
    });
    for (error, waited) in found.into_iter().flatten() {
        assert!(error.starts_with("rank 1: it has died or hangs"), "{error}");
        assert!(waited < 3 * timeout, "{waited:?}");
    }
    let found = together(2, timeout, |group| {
        if group.rank() == 1 {
            // lives, and does something else
            std::thread::sleep(2 * timeout);
            return None;
        }
        Some(group.sum(&mut Tensor::from_slice(&[1.0])).unwrap_err().to_string())
    });
    let error = found.into_iter().flatten().next().unwrap();
    assert!(error.starts_with("rank 1: it lives, and has not come within 8s"), "{error}");
}
