//! Readiness of a mesh: whether Redis decides its requests.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Mesh;

const SOON: Duration = Duration::from_secs(60);

impl Mesh {
    /// Sends requests of several users until Redis has decided this number of them in a row.
    ///
    /// # Panics
    /// If that takes longer than a minute.
    pub async fn until_decided(&self, in_a_row: usize) {
        let deadline = Instant::now() + SOON;
        let mut decided = 0;
        for nth in 0.. {
            let answer = self.get(&format!("warm-up {nth}")).await;
            decided = if answer.header("x-ratelimit-limit").is_some() { decided + 1 } else { 0 };
            if decided == in_a_row {
                return;
            }
            assert!(Instant::now() < deadline, "Redis does not decide within {SOON:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
