//! From a configuration's data source to training rows.

use tch::{Device, Kind, Tensor};

use super::features::Questions;
use super::record::{in_words, into_classes};
use super::{
    DataConfig, DataRecord, Features, TableRows, dequantized_from, level_rows, parts_of,
    scaled_rows,
};
use crate::data::{
    ColumnSchema, Dataset, Dequantize, Kind as Is, Marginals, Purpose, Scaling, ScalingOptions,
    Split, TableOptions, TypeOptions, Types, Values, subset,
};
use crate::dequantize::Uniform;
use crate::noise::{Noise, Seed};
use crate::oracle::named;
use crate::query::{Batch, Cells, Columns, Condition};
use crate::train::{Rows, TrainConfig, Validation};
use crate::{Error, Result};

/// What stands for the source of data that were given in memory.
const IN_MEMORY: &str = "data in memory";

/// The classes that a model of `table` is to be conditioned on; none where that is not requested.
fn classes_of(table: &Dataset, config: &DataConfig) -> Result<Vec<String>> {
    match (config.classes, &table.labels) {
        (false, _) => Ok(Vec::new()),
        (true, Some(labels)) if labels.names.len() > 1 => Ok(labels.names.clone()),
        (true, found) => {
            let what = if found.is_some() { "only one class" } else { "no labels" };
            let problem = format!("{} has {what}", table.called().display());
            let remedy = "give a folder with one sub-folder per class, IDX images with their \
                          labels beside them, an NPZ with labels, or CIFAR-10's batches";
            Err(Error::config("data.classes", problem, remedy))
        }
    }
}

/// Refuses a context that is none of the table.
fn check_context(table: &Dataset, context: &[String]) -> Result<()> {
    let bad = |problem: String, remedy: String| Err(Error::config("data.context", problem, remedy));
    let Some(schema) = table.schema() else {
        return match (context, table.image()) {
            ([], _) => Ok(()),
            (_, Some(_)) => bad("the data are images".into(), "give data.classes = true".into()),
            (_, None) => bad("the data are numbers alone".into(), "say data.types = mixed".into()),
        };
    };
    let varies = |column: &&ColumnSchema| !matches!(column.kind, Is::Constant { .. });
    let names: Vec<&str> = schema.kept().filter(varies).map(|c| c.name.as_str()).collect();
    if let Some(name) = context.iter().find(|name| !names.contains(&name.as_str())) {
        let problem = format!("`{name}` is no column that is modelled");
        return bad(problem, format!("name some of {}", names.join(", ")));
    }
    schema.check_together("data.context", context)?;
    match names.iter().all(|name| context.iter().any(|given| given == name)) {
        true => bad("all columns are given".into(), "leave one out at least".into()),
        false => Ok(()),
    }
}

/// Makes the missing cells of the columns that have any in these rows categories; whether any has.
fn indicate(table: &mut Dataset, rows: &[usize]) -> Result<bool> {
    let option = "data.missing_indicator";
    let bad = |problem: String, remedy: &str| Err(Error::config(option, problem, remedy));
    match (table.image(), table.schema()) {
        (Some(_), _) => return bad("the data are images".into(), "leave it out"),
        (None, None) => {
            return bad("the data are numbers alone".into(), "say data.types = mixed");
        }
        (None, Some(_)) => (),
    }
    let indicated = table.indicate(rows);
    let schema = table.schema().expect("a table with a schema");
    let mut differences = schema.differences();
    if let Some((upper, own)) = differences.find(|(_, own)| indicated.contains(&own.to)) {
        let (lower, upper) = (&own.to, &upper.name);
        let problem = format!(
            "`{lower}` has missing cells, and without it nothing is known of `{upper}`, which is \
             modelled by its difference to it"
        );
        let remedy = format!("leave {lower}<={upper} out of data.table.order");
        return Err(Error::config(option, problem, remedy));
    }
    Ok(!indicated.is_empty())
}

/// Whether nothing is requested of the maps that the fixed map of pixel levels is not.
fn fits_images(scaling: &ScalingOptions) -> bool {
    let marginals = match scaling.marginals {
        Marginals::Gaussianize => return false,
        Marginals::Standardize | Marginals::Auto => scaling.marginals,
    };
    // knots are of no map that pixels could have
    let knots = scaling.knots;
    *scaling == ScalingOptions { marginals, knots, ..ScalingOptions::default() }
}

/// A data source read, split and scaled.
pub struct Prepared {
    /// All rows, raw.
    pub table: Dataset,
    /// Validation rows from a file of their own.
    pub validation: Option<Dataset>,
    /// Which rows are for what.
    pub split: Split,
    /// What the run remembers.
    pub record: DataRecord,
    /// What a model sees of the rows of a table that is read as it comes.
    features: Option<Features>,
    /// Whether training images are mirrored in half of their draws.
    flip: bool,
}

impl DataConfig {
    /// The rows of its source, read to be trained on; those of a mixture are drawn by its
    /// `split_seed`, or where that is not set by `seed`.
    ///
    /// # Errors
    /// [`Error::Data`] for data that cannot be used, [`Error::Config`] for options that are not for
    /// them.
    pub fn rows(&self, seed: u64) -> Result<Dataset> {
        let drawn = self.split_seed.unwrap_or(seed);
        match self.source.strip_prefix("mixture:") {
            Some(name) => mixture_table(name, self.mixture_rows, Seed(drawn)),
            None if self.source.is_empty() => {
                let remedy = "give a table, images, or mixture:NAME";
                Err(Error::config("data.source", "no data were given", remedy))
            }
            None => {
                let dequantize = &self.scaling.dequantize;
                // what is given of a row is a matter of mixed tables, and so are missing cells
                let mixed = Types::Mixed(TypeOptions::default());
                let of_mixed = !self.context.is_empty() || self.missing_indicator;
                let types = match (&self.types, of_mixed) {
                    (Types::Auto, true) if *dequantize == Dequantize::None => &mixed,
                    (types, _) => types,
                };
                Dataset::read_to_train(&self.source, types, &self.table, dequantize)
            }
        }
    }
}

impl Prepared {
    /// Reads `config`'s source and fits the scaling on its training rows. The rows of a mixture and
    /// the split are drawn by `config.split_seed`, or where that is not set by `seed`.
    ///
    /// # Errors
    /// [`Error::Data`] for data that cannot be used, [`Error::Config`] for options that are not for
    /// them.
    pub fn read(config: &DataConfig, seed: u64) -> Result<Prepared> {
        let table = config.rows(seed)?;
        Prepared::split(table, config.source.clone(), config, seed)
    }

    /// As [`Prepared::read`], of rows in memory: the columns and rows that `config.table` requests
    /// of them.
    ///
    /// # Errors
    /// As [`Prepared::read`].
    pub fn of(table: &Dataset, config: &DataConfig, seed: u64) -> Result<Prepared> {
        if !config.source.is_empty() {
            let remedy = "give one of them";
            return Err(Error::config("data.source", "there are data in memory too", remedy));
        }
        let table = table.narrowed(&config.table)?;
        if table.image().is_none() && table.schema().is_none() {
            table.check_columns(&config.scaling.dequantize)?;
        }
        Prepared::split(table, IN_MEMORY.into(), config, seed)
    }

    fn split(
        mut table: Dataset,
        source: String,
        config: &DataConfig,
        seed: u64,
    ) -> Result<Prepared> {
        let seed = config.split_seed.unwrap_or(seed);
        let (asked, own) = (&config.table, table.options());
        for (option, it, is_asked, is_read) in [
            ("data.table.bounds", "them", !asked.bounds.is_empty(), asked.bounds == own.bounds),
            ("data.table.order", "it", !asked.order.is_empty(), asked.order == own.order),
        ] {
            if is_asked && (table.schema().is_none() || !is_read) {
                let (problem, remedy) = match (table.image(), table.schema()) {
                    (Some(_), _) => ("the data are images".into(), format!("leave {it} out")),
                    (None, None) => {
                        ("the data are numbers alone".into(), "say data.types = mixed".into())
                    }
                    (None, Some(_)) => {
                        (format!("the table was read without {it}"), format!("read it with {it}"))
                    }
                };
                return Err(Error::config(option, problem, remedy));
            }
        }
        if let Some(schema) = table.schema() {
            schema.check_ordered(&asked.order)?;
        }
        check_context(&table, &config.context)?;
        if table.image().is_none() {
            for (option, requested) in
                [("data.flip", config.flip), ("data.classes", config.classes)]
            {
                if requested {
                    let remedy = "leave it out: it is for images";
                    return Err(Error::config(option, "the data are a table", remedy));
                }
            }
        } else if !fits_images(&config.scaling) {
            let problem = match table.latents_of() {
                Some(_) => "the data are latents, which are taken as they are",
                None => "the data are images, whose levels are dequantised and brought to [−1, 1]",
            };
            let remedy = "leave out data.scaling.dequantize and data.scaling.marginals";
            return Err(Error::config("data.scaling", problem, remedy));
        }
        if config.flip && table.latents_of().is_some() && !table.has_mirrored() {
            let problem = "the latents of a mirrored image are not the mirrored latents, and the \
                           data hold none of mirrored images";
            let remedy = "encode the images with latents.flip, or leave it out";
            return Err(Error::config("data.flip", problem, remedy));
        }
        let classes = classes_of(&table, config)?;
        into_classes(&mut table, &classes)?;
        let split = Split::new(table.rows(), config.split, seed)?;
        if split.train.len() < 2 {
            let problem = format!("{} training rows", split.train.len());
            let remedy = "give more rows or a larger training share";
            return Err(Error::config("data.split", problem, remedy));
        }
        let mut unindicated = Vec::new();
        if config.missing_indicator && !indicate(&mut table, &split.train)? {
            let text = "no training row has a missing cell: data.missing_indicator changes nothing";
            unindicated.push(text.to_owned());
        }
        let mut features = None;
        let (scaling, marginals, remarks) = match (table.levels(), table.latents_of()) {
            (Some(_), _) => (Scaling::Pixels(table.dim()), Vec::new(), Vec::new()),
            (_, Some(_)) => (Scaling::Latents(table.dim()), Vec::new(), Vec::new()),
            _ if table.schema().is_some() => {
                let seed = Seed(seed).derive("maps");
                let (own, marginals) = Features::fit(&table, &split.train, &config.scaling, seed)?;
                let scaling = own.scaling().clone();
                features = Some(own.given(&config.context));
                (scaling, marginals, [table.unknown_differences(), unindicated].concat())
            }
            _ => {
                let (scaling, marginals) = Scaling::choose(&table, &split.train, &config.scaling)?;
                let far = table.far_values(&scaling)?;
                let remarks = [far, table.remarks(&config.scaling.dequantize)].concat();
                (scaling, marginals, remarks)
            }
        };
        let read = |path| {
            let options = TableOptions {
                purpose: Purpose::Validation,
                ..config.table.of_columns(&table.names())
            };
            if let Some(schema) = table.schema() {
                return Dataset::read_with_schema(path, schema, &options);
            }
            let mut other = Dataset::read_with(path, &options)?;
            let of = |data: &Dataset| {
                (data.image(), data.latents_of().map(|latents| latents.digest.clone()))
            };
            if of(&other) != of(&table) {
                let words = |data: &Dataset| in_words(data.image(), data.latents_of());
                let (found, own) = (words(&other), words(&table));
                let problem = format!("holds {found}, the training data are {own}");
                let remedy = "give data of the same kind and shape, latents of one autoencoder";
                return Err(Error::data(path, problem, remedy));
            }
            into_classes(&mut other, &classes)?;
            Ok::<_, Error>(other)
        };
        let validation = config.validation.as_ref().map(read).transpose()?;
        let held_out = validation.as_ref().map_or(split.validation.len(), Dataset::rows);
        let record = DataRecord {
            source,
            scaling,
            schema: table.schema().cloned(),
            context: config.context.clone(),
            marginals,
            image: table.image(),
            latents: table.latents_of().cloned(),
            classes,
            rows: [split.train.len(), held_out, split.test.len()],
            split_seed: seed,
            dropped: [table.dropped_rows, table.dropped_duplicates],
            fingerprint: table.fingerprint(),
            remarks,
        };
        Ok(Prepared { table, validation, split, record, features, flip: config.flip })
    }

    /// Rows that equal an earlier one, and whether they are more than a table with its columns has
    /// by chance.
    pub fn surprising_duplicates(&self) -> (usize, bool) {
        let columns = self.record.scaling.columns().iter().filter(|column| column.grid.is_some());
        let names = columns.map(|column| column.column.name.clone()).collect();
        self.table.surprising_duplicates(&Dequantize::Columns(names))
    }

    /// The rows to train on.
    pub fn training(&self) -> Box<dyn Rows + '_> {
        let (table, rows) = (&self.table, &*self.split.train);
        if let Some(features) = &self.features {
            return Box::new(Questions { features, table, rows });
        }
        let mirrored = self.record.image.filter(|_| self.flip).map(|[_, _, width]| width);
        Box::new(TableRows { table, rows, scaling: &self.record.scaling, mirrored })
    }

    /// What is known of at most `limit` rows each to fit a base to and to choose it by, of a table
    /// that is read as it comes.
    pub fn observed(&self, limit: usize, held_out: usize, seed: Seed) -> Option<[Cells; 2]> {
        let features = self.features.as_ref()?;
        let of = |table: &Dataset, rows: &[usize], seed: Seed| {
            let noise = &mut Noise::new(seed, 0..rows.len() as u64);
            features.observed(&features.scaled(table, rows, noise))
        };
        let (table, rows) = self.held_out(held_out);
        let train = of(&self.table, &self.some_training(limit), seed);
        Some([train, of(table, &rows, seed.derive("held-out rows"))])
    }

    /// What is given of every row.
    pub fn context(&self) -> Columns {
        self.features.as_ref().map(|own| own.context().clone()).unwrap_or_default()
    }

    /// The question about the numbers of rows given their context and categories.
    fn question(&self, features: &Features, table: &Dataset, rows: &[usize], seed: Seed) -> Batch {
        let noise = &mut Noise::new(seed, 0..rows.len() as u64);
        let (x, cells) = features.question(&features.scaled(table, rows, noise));
        Batch::of(&x).given(Some(Condition::cells(cells)))
    }

    /// The table of the validation rows, and at most `limit` of them, drawn at random once for the
    /// split.
    fn held_out(&self, limit: usize) -> (&Dataset, Vec<usize>) {
        let seed = self.seed().derive("held-out rows");
        match &self.validation {
            Some(table) => {
                let all: Vec<usize> = (0..table.rows()).collect();
                (table, subset(&all, limit, seed))
            }
            None => (&self.table, subset(&self.split.validation, limit, seed)),
        }
    }

    /// At most `limit` validation rows as their file has them, drawn as
    /// [`Prepared::validation_rows`] are.
    pub fn validation_table(&self, limit: usize) -> Dataset {
        let (table, rows) = self.held_out(limit);
        table.take(&rows)
    }

    fn seed(&self) -> Seed {
        Seed(self.record.split_seed)
    }

    /// At most `limit` validation rows in the network's units, `[n, d]`: a draw that depends on the
    /// split and `limit` alone. `seed` is that of the dequantisation.
    pub fn validation_rows(&self, limit: usize, seed: Seed) -> Tensor {
        let (table, rows) = self.held_out(limit);
        if let Some(features) = &self.features {
            return self.question(features, table, &rows, seed).x.to_kind(Kind::Float);
        }
        scaled_rows(table, &rows, &self.record.scaling, seed).0.to_kind(Kind::Float)
    }

    /// The rows of [`Prepared::validation_rows`] at the centres of the bins of their levels, in the
    /// network's units, `[n, d]`: what [`crate::train::Validation::of_levels`] judges a model of
    /// images on.
    pub fn validation_levels(&self, limit: usize) -> Tensor {
        let (table, rows) = self.held_out(limit);
        level_rows(table, &rows, &self.record.scaling).to_kind(Kind::Float)
    }

    /// How a model of these data is judged while it is trained by `config`: images by their levels,
    /// in batches no larger than those of training; `None` where there are no validation rows.
    pub fn judge(&self, config: &TrainConfig, seed: Seed) -> Option<Validation> {
        if self.record.rows[1] == 0 || config.validation_rows == 0 {
            return None;
        }
        let limit = config.validation_rows;
        if let Some(features) = &self.features {
            let (table, rows) = self.held_out(limit);
            let batch = self.question(features, table, &rows, seed.derive("validation rows"));
            let x = batch.x.to_kind(Kind::Float);
            return Some(Validation::new(&x, seed).given(batch.condition));
        }
        let judge = match self.record.levels() {
            Some(_) => Validation::of_levels(&self.validation_levels(limit), seed)
                .in_batches_of(config.batch_size),
            None => {
                Validation::new(&self.validation_rows(limit, seed.derive("validation rows")), seed)
            }
        };
        Some(judge.with_classes(self.validation_classes(limit)))
    }

    /// The classes of [`Prepared::validation_rows`], where the model is conditioned on any.
    pub fn validation_classes(&self, limit: usize) -> Option<Vec<u32>> {
        let (table, rows) = self.held_out(limit);
        table.classes_of(&rows)
    }

    /// At most `limit` training rows in the network's units, drawn as [`Prepared::validation_rows`]
    /// are, `[n, d]`.
    pub fn training_rows(&self, limit: usize, seed: Seed) -> Tensor {
        if self.features.is_some() {
            return self.training_batch(limit, seed).x;
        }
        scaled_rows(&self.table, &self.some_training(limit), &self.record.scaling, seed).0
    }

    /// The rows of [`Prepared::training_rows`] with their classes, where a model is conditioned on
    /// them.
    pub fn training_batch(&self, limit: usize, seed: Seed) -> Batch {
        let rows = self.some_training(limit);
        if let Some(features) = &self.features {
            return self.question(features, &self.table, &rows, seed);
        }
        let (x, _) = scaled_rows(&self.table, &rows, &self.record.scaling, seed);
        Batch::of(&x).given(self.table.condition_of(&rows))
    }

    /// As [`Prepared::training_rows`], in parts of few rows one after the other.
    pub fn training_parts(&self, limit: usize, seed: Seed) -> impl Iterator<Item = Tensor> {
        let rows = self.some_training(limit);
        parts_of(rows.len(), self.table.dim()).map(move |part| {
            let (first, uniform) = (part.start as u64, Uniform::new(&self.record.scaling));
            dequantized_from(&self.table, &rows[part], &uniform, seed, first).rows
        })
    }

    fn some_training(&self, limit: usize) -> Vec<usize> {
        subset(&self.split.train, limit, self.seed().derive("training rows"))
    }
}

fn mixture_table(name: &str, rows: usize, seed: Seed) -> Result<Dataset> {
    let samples = named::sample(name, rows, seed.derive("mixture"))?;
    let samples = samples.to_kind(Kind::Float).to_device(Device::Cpu);
    let column = |k: i64| {
        let values = Vec::try_from(samples.select(1, k).contiguous()).expect("f32 on the CPU");
        (format!("x{}", k + 1), Values::Single(values))
    };
    Dataset::of_columns((0..samples.size()[1]).map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of 2×3 in an IDX file, whose levels count up, read for training.
    fn images(dir: &std::path::Path, config: DataConfig) -> Prepared {
        let path = dir.join("t-images-idx3-ubyte");
        let head = [0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 3];
        std::fs::write(&path, [&head[..], &(0..240).collect::<Vec<u8>>()].concat()).unwrap();
        let source = path.display().to_string();
        Prepared::read(&DataConfig { source, ..config }, 5).unwrap()
    }

    /// Rows keep their classes through the split, batches and validation.
    #[test]
    fn classes_follow_their_rows() {
        let dir = tempfile::tempdir().unwrap();
        let labels: Vec<u8> = (0..40).map(|i| i % 4).collect();
        let file = [&[0, 0, 8, 1, 0, 0, 0, 40], &labels[..]].concat();
        std::fs::write(dir.path().join("t-labels-idx1-ubyte"), file).unwrap();
        let with = images(dir.path(), DataConfig { classes: true, ..DataConfig::default() });
        assert_eq!(with.record.classes, ["0", "1", "2", "3"]);
        // image i begins with the level 6 i
        let class = |levels: &[f64]| (levels[0] / 6.0) as u32 % 4;
        let rows = [3, 30, 0, 17];
        let classes: Vec<u32> =
            levels(&with, &rows, 1).iter().map(|levels| class(levels)).collect();
        assert_eq!(with.training().classes(&rows), Some(classes));
        let held_out: Vec<f32> = Vec::try_from(with.validation_rows(3, Seed(2)).view(-1)).unwrap();
        let classes = with.record.scaling.inverse(&held_out).chunks(6).map(class).collect();
        assert_eq!(with.validation_classes(3), Some(classes));
        // not requested
        let without = images(dir.path(), DataConfig::default());
        assert_eq!(
            (without.training().classes(&rows), without.validation_classes(3)),
            (None, None)
        );
        // few rows are a draw, in a file that may be sorted: not the first four of the split in
        // every run
        let first = |prepared: &Prepared, limit| prepared.held_out(limit).1;
        let (all, few) = (first(&without, 99), first(&without, 2));
        assert!(few.iter().all(|row| all.contains(row)) && few.len() == 2, "{few:?} of {all:?}");
        let drawn: std::collections::HashSet<Vec<usize>> = (0..20)
            .map(|seed| {
                let mut other = images(dir.path(), DataConfig::default());
                other.record.split_seed = seed;
                first(&other, 2)
            })
            .collect();
        assert!(drawn.len() > 1, "{drawn:?}");
        assert_ne!(without.record.fingerprint, with.record.fingerprint);
    }

    /// The levels of batch rows.
    fn levels(prepared: &Prepared, rows: &[usize], seed: u64) -> Vec<Vec<f64>> {
        let mut noise = Noise::of_rows(Seed(seed), rows.iter().map(|&r| r as u64));
        let x = prepared.training().gather(rows, &mut noise, (Kind::Float, Device::Cpu));
        let x: Vec<f32> = Vec::try_from(x.view(-1)).unwrap();
        prepared.record.scaling.inverse(&x).chunks(6).map(<[f64]>::to_vec).collect()
    }

    /// Images go up as levels and a key for each row, and lie within half a level of them.
    #[test]
    fn images_are_dequantised_where_the_network_is() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = images(dir.path(), DataConfig::default());
        let rows: Vec<usize> = (0..prepared.split.train.len()).collect();
        let place = (Kind::Double, Device::Cpu);
        let gather = |rows: &[usize]| {
            let mut noise = Noise::of_rows(Seed(1), rows.iter().map(|&r| r as u64));
            prepared.training().gather(rows, &mut noise, place)
        };
        assert_eq!(crate::tensor::uploads_of(|| gather(&rows)), 2);
        let x = gather(&rows);
        assert_eq!(gather(&rows[3..5]), x.narrow(0, 3, 2));
        let centres = level_rows(&prepared.table, &prepared.split.train, &prepared.record.scaling);
        // half a level is 1/255
        let within = (x - centres) * 255.0;
        assert!(within.abs().max().double_value(&[]) <= 1.0);
        // uniform on [−1, 1): 192 numbers, variance 1/3 ± .04
        let variance = within.square().mean(None).double_value(&[]);
        assert!((variance - 1.0 / 3.0).abs() < 0.1, "{variance}");
    }

    /// About half of the draws are the mirror image, the others the image, whatever batch a row is
    /// in; validation rows are left as they are.
    #[test]
    fn training_images_are_mirrored_in_half_of_their_draws() {
        let dir = tempfile::tempdir().unwrap();
        let plain = images(dir.path(), DataConfig::default());
        let flipped = images(dir.path(), DataConfig { flip: true, ..DataConfig::default() });
        let all: Vec<usize> = (0..plain.split.train.len()).collect();
        let mut mirrored = 0;
        for seed in 0..20 {
            let (before, after) = (levels(&plain, &all, seed), levels(&flipped, &all, seed));
            for (image, drawn) in before.iter().zip(&after) {
                let mirror: Vec<f64> =
                    image.chunks(3).flat_map(|line| line.iter().rev().copied()).collect();
                assert!(drawn == image || *drawn == mirror, "{drawn:?} from {image:?}");
                mirrored += usize::from(*drawn == mirror);
            }
            assert_eq!(levels(&flipped, &all[7..9], seed), after[7..9]);
        }
        // Binomial(640, ½): mean 320, standard deviation 12.6
        assert!((270..370).contains(&mirrored), "{mirrored}");
        let held_out = |prepared: &Prepared| prepared.validation_rows(10, Seed(1));
        assert_eq!(held_out(&plain), held_out(&flipped));
    }
}
