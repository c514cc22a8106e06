//! The options that presets set.

use std::path::Path;

use super::Layer;
use crate::choice::Preset;

impl Preset {
    /// The options that it sets.
    pub fn layer(&self) -> Layer {
        Layer::parse(self.options, Path::new(self.name)).expect("options as TOML")
    }
}

#[cfg(test)]
mod tests {
    use crate::run::RunConfig;
    use crate::{model, objective, schedule};

    /// Every one is a configuration whose head is for its objective, over any other.
    #[test]
    fn presets_are_configurations() {
        let others = schedule::PRESETS.iter().chain(&model::PRESETS);
        for preset in objective::PRESETS.iter().chain(others) {
            for below in objective::PRESETS
                .iter()
                .filter(|below| !["sn", "iddpm", "iddpm-hybrid"].contains(&below.name))
            {
                let config = RunConfig::resolve(&[&below.layer(), &preset.layer()]).unwrap();
                if let Some(head) = &config.model.head {
                    config.objective.check_head(head).unwrap();
                }
            }
        }
    }
}
