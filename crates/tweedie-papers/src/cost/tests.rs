use super::*;

fn tiny() -> Cost {
    let network = NetworkConfig::UNet(UNetConfig {
        shape: [1, 8, 8],
        widths: vec![8, 8],
        attention: vec![false, false],
        head_widths: vec![4, 4],
        groups: 4,
        ..UNetConfig::default()
    });
    Cost { network, pairs: 4, transitions: 2, ranks: vec![0, 2], rounds: 2, ..Cost::default() }
}

/// Writes the files of `report` and returns its page.
fn written(report: &Report, dir: &std::path::Path) -> String {
    let outcome = report.outcome(Device::Cpu);
    outcome.write(dir).unwrap();
    outcome
        .page
        .fill(
            crate::experiment::Entry::of::<Cost>().page(),
            &serde_json::to_value(&report.experiment).unwrap(),
        )
        .unwrap()
}

#[test]
fn every_arm_is_timed_and_written() {
    let mut measured = Vec::new();
    let mut memory = |arm: &Arm| {
        measured.push(arm.name());
        Ok(Some(Peak { before: 1 << 20, highest: (3 + measured.len() as u64) << 20 }))
    };
    let mut heard = 0.0;
    let report = tiny().measure(Device::Cpu, &mut memory, &mut |_, done| heard = done).unwrap();
    assert_eq!(heard, 1.0);
    let names = [
        "sm",
        "lm-r0-shared",
        "lm-r2-shared",
        "lm-r0-separate",
        "lm-r2-separate",
        "head-r0-shared",
        "head-r2-shared",
        "head-r0-separate",
        "head-r2-separate",
    ];
    assert_eq!(measured, names);
    for measured in &report.arms {
        let [low, middle, high] = measured.iteration.quartiles;
        assert!(0.0 < low && low <= middle && middle <= high, "{measured:?}");
        assert_eq!(
            measured.sampling.is_some(),
            measured.arm.trained == Trained::Both,
            "{measured:?}"
        );
    }
    // a head alone moves what lies beyond the score, of which every arm has the same
    let parameters: Vec<i64> = report.arms.iter().map(|m| m.parameters).collect();
    for i in 1..5 {
        assert_eq!(parameters[i] - parameters[i + 4], parameters[0]);
    }
    let dir = tempfile::tempdir().unwrap();
    let page = written(&report, dir.path());
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("cost.csv").lines().count(), 1 + names.len());
    // the third arm measured: 5 MiB of growth over SM's 3
    assert!(
        page.contains("| LM, r = 2, shared trunk |") && page.contains("| 5 | 1.67 |"),
        "{page}"
    );
    assert!(
        page.contains("0.599 (2.06)") && page.contains("head only, r = 2, as the paper"),
        "{page}"
    );
    for figure in ["cost-training.svg", "cost-sampling.svg", "cost-memory.svg"] {
        assert!(read(figure).contains("LM, shared trunk"), "{figure}");
    }
}

/// Where memory cannot be known there is no column for it.
#[test]
fn unknown_memory_is_left_out() {
    let experiment = Cost { ranks: vec![0], rounds: 1, ..tiny() };
    let report = experiment.measure(Device::Cpu, &mut |_| Ok(None), &mut |_, _| ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let page = written(&report, dir.path());
    assert!(
        page.contains("Peak memory is left out") && !page.contains("peak memory, MiB"),
        "{page}"
    );
    assert!(!dir.path().join("cost-memory.svg").exists());
}

#[test]
fn impossible_settings_are_named() {
    for (experiment, flag) in [
        (Cost { transitions: 3, ..tiny() }, "experiment.transitions"),
        (Cost { ranks: vec![], ..tiny() }, "experiment.ranks"),
        (Cost { ranks: vec![65], ..tiny() }, "experiment.ranks"),
        (Cost { rounds: 0, ..tiny() }, "experiment.rounds"),
    ] {
        let error = experiment
            .measure(Device::Cpu, &mut |_| Ok(None), &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(flag), "{error}");
    }
    let error = tiny().peak_memory("lm", Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("head-r2-separate"), "{error}");
}
