//! Decides which addresses are globally reachable. Never looks anything up, has no
//! settings. Pure. Runs on the runtimes of attempts.
//!
//! Source: the IANA special-purpose address registries for IPv4 and IPv6
//! (RFC 6890, RFC 8190), column "Globally Reachable". An entry without yes or no
//! counts as not reachable. The tests compare every entry of a copy that includes
//! RFC 9780 (April 2025).

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns whether the registries list this address as globally reachable.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    // The kernel treats an IPv4-mapped address as the IPv4 address.
    match address.to_canonical() {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// The class of the addresses of a network.
#[derive(Clone, Copy)]
enum Class {
    Global,
    Special,
    /// IPv4 behind a translator: the last 32 bits decide.
    Embeds,
}
use Class::{Embeds, Global, Special};

/// Each network with its class. The longest prefix that contains an address
/// decides; an address in no network is global.
const V4: &[(Ipv4Net, Class)] = &[
    (v4([0, 0, 0, 0], 8), Special),        // "this network"
    (v4([10, 0, 0, 0], 8), Special),       // private
    (v4([100, 64, 0, 0], 10), Special),    // carriers' address translation
    (v4([127, 0, 0, 0], 8), Special),      // loopback
    (v4([168, 63, 129, 16], 32), Special), // Azure's host, though public by number
    (v4([169, 254, 0, 0], 16), Special),   // link-local, clouds' metadata
    (v4([172, 16, 0, 0], 12), Special),    // private
    (v4([192, 0, 0, 0], 24), Special),     // protocol assignments
    (v4([192, 0, 0, 9], 32), Global),      // port control anycast
    (v4([192, 0, 0, 10], 32), Global),     // TURN anycast
    (v4([192, 0, 2, 0], 24), Special),     // documentation
    (v4([192, 88, 99, 0], 24), Special),   // former 6to4 relays
    (v4([192, 168, 0, 0], 16), Special),   // private
    (v4([198, 18, 0, 0], 15), Special),    // benchmarking
    (v4([198, 51, 100, 0], 24), Special),  // documentation
    (v4([203, 0, 113, 0], 24), Special),   // documentation
    (v4([224, 0, 0, 0], 4), Special),      // multicast
    (v4([240, 0, 0, 0], 4), Special),      // reserved, broadcast
];

/// The same for IPv6. Only 2000::/3 is global unicast. Outside of it are loopback,
/// unspecified, IPv4-compatible, discard, unique local, link-local, site-local,
/// multicast and unassigned addresses.
const V6: &[(Ipv6Net, Class)] = &[
    (v6([0; 8], 0), Special),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), Embeds), // NAT64
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Global),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Special), // protocol assignments, Teredo
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), Global), // port control anycast
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), Global), // TURN anycast
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), Global), // service registration anycast
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), Global),  // multicast tunneling
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), Global), // AS112
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), Global), // ORCHIDv2
    (v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), Global), // drones' identifiers
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Special), // documentation
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Special), // 6to4: relays of third parties
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Special), // documentation
];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits)
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let holding = V4.iter().filter(|(network, _)| network.contains(&address));
    match holding.max_by_key(|(network, _)| network.prefix_len()) {
        None | Some((_, Global)) => true,
        Some((_, Special | Embeds)) => false,
    }
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let holding = V6.iter().filter(|(network, _)| network.contains(&address));
    match holding.max_by_key(|(network, _)| network.prefix_len()) {
        Some((_, Global)) => true,
        Some((_, Embeds)) => {
            let [.., a, b, c, d] = address.octets();
            is_global_v4(Ipv4Addr::new(a, b, c, d))
        }
        None | Some((_, Special)) => false,
    }
}

/// Returns the IPv4 address to which a translator forwards this address.
#[must_use]
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address.to_canonical() else {
        return None;
    };
    let mut networks = V6.iter();
    let [.., a, b, c, d] = address.octets();
    networks
        .any(|(network, class)| matches!(class, Embeds) && network.contains(&address))
        .then_some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests;
