//! Likelihood Matching at the noise levels where there is something to learn.
//!
//! A network that corrects a base gains on it at some noise levels and next to nothing at others: a
//! table's Gaussian base is right where noise drowns the data, and right to the noise itself where
//! there is hardly any. Here each transition is drawn by itself, its time `t` in proportion to what
//! the network has gained there so far, and weighted by one over the density of that, so that the
//! mean of the loss on the score is what it is with times uniform in the clock.

use std::cell::RefCell;

use tch::{Kind, Tensor, no_grad};

use super::likelihood_matching::Transitions;
use super::{LikelihoodMatching, Objective, ScoreGradient, Trains};
use crate::model::{Denoiser, Space};
use crate::noise::{Draw, Noise};
use crate::query::{Batch, Query};
use crate::tensor::{squared_norm, to_vec, upload};

/// Likelihood Matching of transitions with adaptive times, in its marginal form.
#[derive(Debug)]
pub struct AdaptiveLikelihoodMatching {
    /// What is minimised, and in which clock; how a path's times are laid does not matter.
    lm: LikelihoodMatching,
    /// Transitions of each row that train the head; 0: those that train the score.
    head: usize,
    gains: RefCell<Gains>,
    /// Of the last loss: parts of the clock, and what the network gained there.
    seen: RefCell<Vec<(u32, f64)>>,
}

/// Parts of the clock with a density of their own.
const PARTS: usize = 24;
/// Transitions of a batch that the base is evaluated on again, at most.
const MEASURED: i64 = 64;
/// How much of a mean of gains is that of the last batch.
const NEWEST: f32 = 0.01;
/// What every part counts beside its gain, for each number of a row: gains that are no more than
/// noise leave times uniform in the clock.
const FLOOR: f64 = 0.005;

/// What the network gains on its base, `E‖ε − ε̂_b‖² − E‖ε − ε̂‖²`, in each part of the clock:
/// moving means. In f32, as a checkpoint has them.
#[derive(Clone, Debug, PartialEq)]
struct Gains([f32; PARTS]);

/// A time that was drawn.
struct Drawn {
    /// Its quantile in the clock.
    quantile: f64,
    part: usize,
    /// One over the density of the quantile.
    weight: f64,
}

impl Gains {
    /// The probability of each part for rows of `dim` numbers: in proportion to its gain and a
    /// floor.
    fn probabilities(&self, dim: i64) -> [f64; PARTS] {
        let masses = self.0.map(|gain| f64::from(gain.max(0.0)) + FLOOR * dim as f64);
        let total: f64 = masses.iter().sum();
        masses.map(|mass| mass / total)
    }

    /// What lies at the share `u` of all mass.
    fn at(probabilities: &[f64; PARTS], u: f64) -> Drawn {
        let mut rest = u * probabilities.iter().sum::<f64>();
        let mut part = 0;
        while part + 1 < PARTS && rest >= probabilities[part] {
            rest -= probabilities[part];
            part += 1;
        }
        let within = (rest / probabilities[part]).clamp(0.0, 1.0);
        let weight = 1.0 / (PARTS as f64 * probabilities[part]);
        Drawn { quantile: (part as f64 + within) / PARTS as f64, part, weight }
    }

    /// Takes in the gains of transitions in these parts; those that are not finite are left out.
    fn record(&mut self, gains: &[(u32, f64)]) {
        let (mut sums, mut counts) = ([0.0; PARTS], [0.0; PARTS]);
        for &(part, gain) in gains.iter().filter(|(_, gain)| gain.is_finite()) {
            sums[part as usize] += gain;
            counts[part as usize] += 1.0;
        }
        for ((mean, sum), count) in self.0.iter_mut().zip(sums).zip(counts) {
            if count > 0.0 {
                *mean += NEWEST * ((sum / count) as f32 - *mean);
            }
        }
    }
}

impl AdaptiveLikelihoodMatching {
    /// Likelihood Matching as `lm` is otherwise. Unless `head` is 0, the transitions that train the
    /// score do not train the head: it has so many of each row to itself, their times uniform in the
    /// clock. Most of a step is then the score's, which needs it more.
    ///
    /// # Panics
    /// If the head is to have transitions to itself, and the quasi-likelihood trains the score.
    pub fn new(lm: LikelihoodMatching, head: usize) -> AdaptiveLikelihoodMatching {
        assert!(head == 0 || lm.score == ScoreGradient::Dsm, "a head apart under {:?}", lm.score);
        let gains = RefCell::new(Gains([0.0; PARTS]));
        AdaptiveLikelihoodMatching { lm, head, gains, seen: RefCell::default() }
    }

    /// What trains the head where it has transitions to itself.
    fn head_alone(&self) -> Option<LikelihoodMatching> {
        let (transitions, score) = (self.head, ScoreGradient::Frozen);
        (transitions > 0).then_some(LikelihoodMatching { transitions, score, ..self.lm })
    }

    /// The transitions that `lm` takes of each row. Their times lie at the quantiles of the clock
    /// that `quantile` makes of uniform numbers, one in each of the parts of a row, and end where
    /// it is uniform in the clock below.
    fn transitions(
        &self,
        lm: &LikelihoodMatching,
        space: &Space,
        (batch, noise): (&Batch, &mut Noise),
        mut quantile: impl FnMut(f64) -> f64,
    ) -> Transitions {
        let (schedule, n) = (space.schedule(), lm.transitions);
        let pairs = noise.uniform(2 * n);
        let pairs = pairs.chunks_exact(2).enumerate().map(|(k, pair)| {
            let start = quantile(((k % n) as f64 + pair[0]) / n as f64);
            let time = |quantile| lm.time.time(schedule, quantile);
            (time(start * pair[1]), time(start))
        });
        lm.transitions_of(schedule, batch, pairs.collect(), noise)
    }

    /// What `found`, the network's `ε̂` of transitions, gains on the base in those that are among the
    /// first of their batch, `before` of which are not here. A model without a base has nothing to
    /// gain.
    fn measure(
        model: &dyn Denoiser,
        (at, found): (&Transitions, &Tensor),
        drawn: &[Drawn],
        before: usize,
    ) -> Vec<(u32, f64)> {
        let count = (MEASURED - before as i64).min(drawn.len() as i64);
        let Some(split) = model.split().filter(|_| count > 0) else { return Vec::new() };
        let (q, rows) = (at.query(), 0..count as usize);
        let part = |x: &Tensor| x.narrow(0, 0, count);
        let (x, times) = (part(q.x), q.times.narrow(rows.clone()));
        let condition = q.condition.map(|condition| condition.narrow(rows.clone()));
        let asked = Query::new(&x, &times).given(condition.as_ref());
        let gains = no_grad(|| {
            let (base, _) = (split.known)(&asked);
            let noise = part(&at.noise).to_kind(Kind::Double);
            let error = |found: &Tensor| squared_norm(&(&noise - found));
            to_vec(&(error(&base) - error(&part(found).to_kind(Kind::Double))))
        });
        drawn.iter().map(|drawn| drawn.part as u32).zip(gains).collect()
    }
}

impl Objective for AdaptiveLikelihoodMatching {
    fn loss(&self, model: &dyn Denoiser, batch: &Batch, noise: &mut Noise) -> Tensor {
        let space = model.space();
        let probabilities = self.gains.borrow().probabilities(space.dim);
        let mut drawn = Vec::new();
        let at = self.transitions(&self.lm, space, (batch, noise), |u| {
            drawn.push(Gains::at(&probabilities, u));
            drawn.last().expect("it was just drawn").quantile
        });
        let moments = (self.head == 0).then(|| model.moments(&at.query()));
        let found = match &moments {
            Some(moments) => moments.noise.shallow_clone(),
            None => model.noise(&at.query()),
        };
        let before = batch.first * self.lm.transitions;
        self.seen.replace(Self::measure(model, (&at, &found), &drawn, before));
        let weights: Vec<f64> = drawn.iter().map(|drawn| drawn.weight).collect();
        let weights = upload(&Tensor::from_slice(&weights), at.noise.kind(), at.noise.device());
        let Some(head) = self.head_alone() else {
            let moments = moments.expect("of the same transitions");
            return self.lm.mean(&self.lm.loss_of(&at, moments, Some(&weights)));
        };
        let of_score = self.lm.mean(&(LikelihoodMatching::score_loss(&at, &found) * weights));
        let at = self.transitions(&head, space, (batch, noise), |u| u);
        of_score + head.mean(&head.loss_of(&at, model.moments(&at.query()), None))
    }

    fn draws(&self) -> usize {
        self.lm.transitions + self.head
    }

    fn noise(&self, dim: usize) -> Vec<Draw> {
        let of = |n: usize| [Draw::Uniform(2 * n), Draw::Normal(n * dim)];
        let mut draws = of(self.lm.transitions).to_vec();
        if self.head > 0 {
            draws.extend(of(self.head));
        }
        draws
    }

    fn trains(&self) -> Trains {
        self.lm.trains()
    }

    fn observed(&self) -> Option<Vec<(u32, f64)>> {
        Some(self.seen.take())
    }

    fn learn(&self, observed: &[(u32, f64)]) {
        self.gains.borrow_mut().record(observed);
    }

    fn memory(&self) -> Option<Tensor> {
        Some(Tensor::from_slice(&self.gains.borrow().0))
    }

    fn restore(&self, _space: &Space, memory: Option<&Tensor>) -> Result<(), String> {
        let gains = match memory {
            None => Gains([0.0; PARTS]),
            Some(memory) => {
                let numbers: Vec<f32> = to_vec(memory).into_iter().map(|v| v as f32).collect();
                let found = numbers.len();
                let all: [f32; PARTS] = numbers.try_into().map_err(|_| {
                    format!("holds gains in {found} parts of the clock, not {PARTS}")
                })?;
                match all.iter().all(|gain| gain.is_finite()) {
                    true => Gains(all),
                    false => return Err("holds gains that are no numbers".into()),
                }
            }
        };
        self.gains.replace(gains);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grid::{PathGrid, TimeDistribution};
    use crate::likelihood::mean_and_error;
    use crate::noise::Seed;
    use crate::objective::{LmForm, ScoreGradient};
    use crate::oracle::{GaussianMixture, Oracle};
    use crate::schedule::Vp;

    fn objective(
        gains: [f32; PARTS],
        score: ScoreGradient,
        head: usize,
    ) -> AdaptiveLikelihoodMatching {
        let lm = LikelihoodMatching {
            transitions: 4,
            form: LmForm::Marginal,
            time: TimeDistribution::LogSnr,
            grid: PathGrid::Random,
            score,
        };
        let new = AdaptiveLikelihoodMatching::new(lm, head);
        AdaptiveLikelihoodMatching { gains: RefCell::new(Gains(gains)), ..new }
    }

    /// Quantiles have the density that their weights say: shares of parts, and a mean weight of 1.
    #[test]
    fn times_are_drawn_by_their_probabilities() {
        let mut gains = [0.0; PARTS];
        (gains[3], gains[7], gains[8]) = (3.0, 1.0, -5.0);
        let probabilities = Gains(gains).probabilities(10);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        let (n, mut total, mut found) = (100_000, 0.0, [0.0; PARTS]);
        for k in 0..n {
            let Drawn { quantile, part, weight } =
                Gains::at(&probabilities, (f64::from(k) + 0.5) / f64::from(n));
            assert_eq!(part, (quantile * PARTS as f64) as usize);
            total += weight / f64::from(n);
            found[part] += 1.0 / f64::from(n);
        }
        assert!((total - 1.0).abs() < 1e-3, "{total}");
        assert!((found[3] - 3.05 / 5.2).abs() < 1e-4, "{}", found[3]);
        assert!((found[8] - 0.05 / 5.2).abs() < 1e-4, "a part that loses is still drawn");
        // noise leaves times nearly uniform
        let noise = std::array::from_fn(|k| if k == 12 { 0.01 } else { -0.01 });
        let of_noise = Gains(noise).probabilities(64);
        assert!(of_noise.iter().all(|p| (p * PARTS as f64 - 1.0).abs() < 0.05), "{of_noise:?}");
    }

    /// Whatever the gains, the mean of the loss is the same, within four Monte-Carlo errors; and it
    /// is no other where the head has transitions to itself.
    #[test]
    fn the_mean_of_the_loss_does_not_depend_on_the_gains() {
        let mixture = GaussianMixture::new(&[0.3, 0.7], &[[-1.0], [0.8]], &[0.4, 0.7]).unwrap();
        let oracle = Oracle::new(mixture, Arc::new(Vp::default()));
        let rows = Batch::of(&oracle.mixture.sample(20_000, Seed(1)));
        let (uniform, mut skewed) = ([0.0; PARTS], [0.0; PARTS]);
        skewed[10] = 2.0;
        skewed[20] = 1.0;
        let same = |objectives: [AdaptiveLikelihoodMatching; 2]| {
            let mut seed = 2;
            let [(a, ea), (b, eb)] = objectives.map(|objective| {
                seed += 1;
                let noise = &mut Noise::new(Seed(seed), 0..20_000);
                mean_and_error(&to_vec(&objective.loss(&oracle, &rows, noise)))
            });
            assert!((a - b).abs() < 4.0 * ea.hypot(eb), "{a} ± {ea}, {b} ± {eb}");
        };
        same([uniform, skewed].map(|gains| objective(gains, ScoreGradient::Joint, 0)));
        same([uniform, skewed].map(|gains| objective(gains, ScoreGradient::Dsm, 2)));
        same([0, 1].map(|head| objective(uniform, ScoreGradient::Dsm, head)));
    }

    #[test]
    fn noise_is_drawn_for_score_and_head() {
        let of = |head| objective([0.0; PARTS], ScoreGradient::Dsm, head);
        let draws = |head| of(head).noise(5);
        assert_eq!(draws(0), [Draw::Uniform(8), Draw::Normal(20)]);
        let both = [Draw::Uniform(8), Draw::Normal(20), Draw::Uniform(4), Draw::Normal(10)];
        assert_eq!(draws(2), both);
        assert_eq!(of(2).draws(), 6);
    }

    #[test]
    fn memory_goes_on_to_the_bit() {
        let mut gains = [0.0; PARTS];
        gains[5] = 0.1;
        let first = objective(gains, ScoreGradient::Joint, 0);
        first.gains.borrow_mut().record(&[(5, 0.7), (9, f64::NAN), (2, -1.0)]);
        let second = objective([0.0; PARTS], ScoreGradient::Joint, 0);
        let oracle = Oracle::new(
            GaussianMixture::new(&[1.0], &[[0.0]], &[1.0]).unwrap(),
            Arc::new(Vp::default()),
        );
        second.restore(oracle.space(), first.memory().as_ref()).unwrap();
        assert_eq!(*second.gains.borrow(), *first.gains.borrow());
        assert_eq!(first.gains.borrow().0[9], 0.0);
        let short = Tensor::from_slice(&[0f32; 3]);
        assert!(second.restore(oracle.space(), Some(&short)).unwrap_err().contains("3 parts"));
        second.restore(oracle.space(), None).unwrap();
        assert_eq!(second.gains.borrow().0, [0.0; PARTS]);
    }
}
