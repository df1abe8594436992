//! Records to publish, made from the contract's own example: repeated key,
//! 64-bit numbers and Chinese text included.

/// The contract's example, wrapped, byte for byte.
pub const EXAMPLE: &[u8] = include_bytes!("../../contract/example-request.json");

/// The example's tenant.
pub const EXAMPLE_TENANT: &str = "87462158132343186600590049";

/// The example's record id.
pub const EXAMPLE_ID: &str = "0605589a-c1f7-47a5-b75c-3e639e1b928a";

/// A phone number in every sample: it must show up in no log.
pub const PHONE_NUMBER: &str = "18680872180";

/// The example's inner object, byte for byte.
pub fn bare_example() -> &'static [u8] {
    let start = EXAMPLE[1..].iter().position(|b| *b == b'{');
    let end = EXAMPLE.iter().rposition(|b| *b == b'}');
    let (start, end) = (start.expect("inner object"), end.expect("outer end"));
    EXAMPLE[start + 1..end].trim_ascii_end()
}

/// A bare record of this call and tenant, some 1.5 kB.
pub fn record(id: &str, tenant: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bare_example()).expect("the example is UTF-8");
    text.replace(EXAMPLE_ID, id)
        .replace(EXAMPLE_TENANT, tenant)
        .into_bytes()
}

/// The body that must arrive for a bare value.
pub fn wrapped(bare: &[u8]) -> Vec<u8> {
    [b"{\"data\":", bare, b"}"].concat()
}
