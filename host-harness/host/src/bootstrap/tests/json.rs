//! JSON with keys that are there more than once.

use super::*;

#[test]
fn a_repeated_key_of_json_is_refused_with_its_place() {
    let text = "{\"static_resources\": {\"clusters\": [], \"clusters\": []}}";
    let error = Bootstrap::parse(text, "twice.json").unwrap_err().to_string();
    assert_eq!(error, "twice.json:1:39: `clusters` is given twice, which is not honoured by the harness");
    // As Envoy, the harness takes the last one of YAML.
    assert!(Bootstrap::parse(text, "twice.yaml").is_ok());
}
