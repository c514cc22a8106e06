//! The program.
fn main() {
    let _ = tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu));
    println!("{}", tch::get_num_threads());
}
