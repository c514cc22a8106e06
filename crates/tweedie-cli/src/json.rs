//! Parts of the answers for programs.

use serde_json::{Value, json};
use tweedie::data::Place;
use tweedie::sample::Clipped;
use tweedie::tensor::Count;

/// A row for JSON: its number in its file, its image's path, and what is said of it.
pub fn json_row(place: Place, more: Value) -> Value {
    let mut row = json!(place);
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// What was clipped, for programs.
pub fn clipped_json(clipped: &Clipped) -> Value {
    let of = |count: Count| json!({ "clipped": count.some, "of": count.all });
    json!({
        "clean": of(clipped.clean),
        "noise": of(clipped.noise),
        "guided": of(clipped.guided),
    })
}
