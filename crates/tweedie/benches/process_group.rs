//! The sum of a gradient over two processes, threads here with connections of their own by way of
//! the loopback: what it adds to a step.

use std::sync::mpsc::channel;
use std::time::Duration;

use divan::Bencher;
use tweedie::process_group::{Member, ProcessGroup};
use tweedie::tch::{Device, Kind, Tensor};

fn main() {
    divan::main();
}

/// Millions of parameters: a network for rows, one for small images, that of DDPM++.
#[divan::bench(args = [1, 10, 69], sample_count = 20)]
fn sum_of_millions_in_f32(bencher: Bencher, millions: i64) {
    let port = Member::free_port().expect("a port");
    let join = move |rank| {
        let member = Member { rank, size: 2, port, ..Member::default() };
        ProcessGroup::join(&member, Duration::from_secs(60)).expect("a group of two")
    };
    let gradient = move || Tensor::ones([millions * 1_000_000], (Kind::Float, Device::Cpu));
    let (next, steps) = channel::<()>();
    let other = std::thread::spawn(move || {
        let (group, mut gradient) = (join(1), gradient());
        steps.iter().for_each(|()| group.sum(&mut gradient).expect("the other is there"));
    });
    let (group, mut gradient) = (join(0), gradient());
    bencher.bench_local(|| {
        next.send(()).expect("it waits");
        group.sum(&mut gradient).expect("the other is there");
    });
    drop(next);
    other.join().expect("it ends");
}
