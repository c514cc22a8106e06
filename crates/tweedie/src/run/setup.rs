//! What trained parameters belong to, as a digest: densities of one training's weights under
//! another's scaling are wrong, and nothing in their shapes says so.

use serde_json::{Value, json};

use super::RunDir;
use super::checkpoint::Setup;
use super::dir::RESTORE;
use crate::{Error, Result};

/// FNV-1a, in hexadecimal.
fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

impl RunDir {
    /// What the parameters of this run belong to: of `config.toml` the schedule and the model, of
    /// `data.json` the fingerprint, the scaling, the shape of images and the classes, and
    /// `base.json`. It is made of the files as they stand, not of what they are read to, so that a
    /// later version, which may know more fields, finds the same.
    pub(super) fn setup(&self) -> Result<Setup> {
        if let Some(setup) = self.setup.get() {
            return Ok(setup.clone());
        }
        let text = String::from_utf8_lossy(&self.read("config.toml")?).into_owned();
        self.setup_under(&text)
    }

    /// As [`RunDir::setup`] of a run whose configuration will be `config`.
    pub(super) fn setup_under(&self, config: &str) -> Result<Setup> {
        let config: toml::Table = toml::from_str(config).map_err(|e| {
            Error::checkpoint(self.file("config.toml"), format!("cannot be read: {e}"), RESTORE)
        })?;
        let config = serde_json::to_value(config).expect("plain data");
        let (data, base): (Value, Value) =
            (self.read_json("data.json")?, self.read_json("base.json")?);
        let parts = json!([
            config["schedule"],
            config["model"],
            data["scaling"],
            data["image"],
            data["classes"],
            base,
        ]);
        let fingerprint = data["fingerprint"].as_str().unwrap_or_default().to_string();
        let setup = Setup { data: fingerprint, digest: hash(&parts.to_string()) };
        Ok(self.setup.get_or_init(|| setup).clone())
    }

    /// Replaces these sections of `config.toml` by those of `config`, paths of data as absolute
    /// ones; the rest stays as it stands.
    pub(super) fn rewrite_config(
        &self,
        config: &super::RunConfig,
        sections: &[&str],
    ) -> Result<()> {
        let broken = |e: toml::de::Error| {
            Error::checkpoint(
                self.file("config.toml"),
                format!("cannot be read: {}", e.message()),
                RESTORE,
            )
        };
        let mut stored: toml::Table =
            toml::from_str(&String::from_utf8_lossy(&self.read("config.toml")?)).map_err(broken)?;
        let config = config.absolute();
        let mut new: toml::Table = toml::from_str(&config.to_toml()).map_err(broken)?;
        for &section in sections {
            if let Some(value) = new.remove(section) {
                stored.insert(section.into(), value);
            }
        }
        self.write("config.toml", toml::to_string(&stored).expect("plain data").as_bytes())
    }
}
