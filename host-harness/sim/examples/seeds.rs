//! Simulates seeds of small and of large fleets until one breaks a guarantee. Its arguments are the number of seeds and
//! the first of them; the exit code is 1 if one breaks a guarantee, and STORY=1 shows its history.

use std::process::ExitCode;

use weir_sim::{Size, shrink, sweep};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse().unwrap_or(1));
    let (seeds, first) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(1));
    for size in [Size { seconds: 36, proxies: 2, workers: 2 }, Size::default()] {
        std::panic::set_hook(Box::new(|_| {}));
        let done = sweep(first, seeds, size, 2, &|progress| progress.broken.is_empty());
        if let Some((seed, outcome)) = done.broken.first_key_value() {
            let broken = outcome.broken.as_ref().map(ToString::to_string).unwrap_or_default();
            if let Some(story) = shrink(*seed, size, None).filter(|_| std::env::var_os("STORY").is_some()) {
                eprintln!("{story}");
            }
            println!("after {} seeds of {} workers, by seed {seed}: {broken}", done.simulations, size.places());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
