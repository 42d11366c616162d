//! How many trainings there is memory for.

use multi_entity_vae::config::Config;
use multi_entity_vae::layers::Extent;

/// Bytes that a training takes, roughly and rather too many: of the default, which takes 190 MiB while it is evaluated, this says 250.
pub fn needed(config: &Config, image: Extent) -> u64 {
    /// The program, its digits and scenes that wait.
    const AROUND: usize = 200 << 20;
    /// A parameter, arranged both ways, its gradient and Adam's two moments.
    const OF_A_PARAMETER: usize = 6;
    /// What a layer says, and its gradient.
    const OF_AN_ACTIVATION: usize = 2;
    let of_a_step = config.training.batch.saturating_mul(config.training.objective.most_samples());
    let activations = config.model.activations(image).saturating_mul(of_a_step).saturating_mul(OF_AN_ACTIVATION);
    let parameters = config.model.parameters(image).saturating_mul(OF_A_PARAMETER);
    activations.saturating_add(parameters).saturating_mul(size_of::<f32>()).saturating_add(AROUND) as u64
}

/// Bytes that the system has to give, where it says so: Linux, within the limit of a control group of version 2.
pub fn free() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let all = available(&read("/proc/meminfo")?)?;
    let group = |file: &str| read(&format!("/sys/fs/cgroup/memory.{file}"));
    let number = |file: &str| group(file)?.trim().parse::<u64>().ok();
    let left = || {
        // Files that were read count as taken, and are given up for the asking.
        let files = group("stat")?.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok())?;
        Some(number("max")?.saturating_sub(number("current")?.saturating_sub(files)))
    };
    Some(left().map_or(all, |left| left.min(all)))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// As many of `jobs` as fit, one at least.
pub fn that_fit(jobs: u64, needed: u64, free: Option<u64>) -> u64 {
    free.map_or(jobs, |free| jobs.min((free / needed.max(1)).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use multi_entity_vae::config::Preset;

    #[test]
    fn as_many_run_as_fit_and_one_always() {
        assert_eq!([that_fit(8, 100, Some(350)), that_fit(2, 100, Some(350)), that_fit(8, 100, Some(20))], [3, 2, 1]);
        assert_eq!(that_fit(8, 100, None), 8);
    }

    #[test]
    fn the_systems_word_is_read() {
        let text = "MemTotal:       24576000 kB\nMemFree:          100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        assert_eq!([available("MemTotal: 5 kB\n"), available("MemAvailable: many kB\n")], [None, None]);
    }

    #[test]
    fn a_larger_batch_takes_more() {
        let mut config = Preset::MultiEntity.config();
        let image = Extent::new(64, 64, 1);
        let before = needed(&config, image);
        assert!((200 << 20..300 << 20).contains(&before), "{before}");
        config.training.batch *= 64;
        assert!(needed(&config, image) > 4 * before);
    }
}
