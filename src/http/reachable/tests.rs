//! The registries, entry by entry, and the addresses that attackers try.

use super::*;
use ipnet::IpNet;

/// A block of a registry, and whether it is globally reachable.
fn entries(registry: &str) -> Vec<(IpNet, bool)> {
    let lines = registry.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let block = words.next().expect("a block").parse().expect("a network");
            let reachable = match words.next() {
                Some("yes") => true,
                Some("no" | "-") => false,
                other => panic!("{line}: {other:?}"),
            };
            assert!(words.next().is_some(), "{line}: no name");
            (block, reachable)
        })
        .collect()
}

/// The address before (-1) or after (1) this one, if there is one.
fn neighbour(address: IpAddr, step: i8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_add_signed(step.into())?.into()),
        IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_add_signed(step.into())?.into()),
    })
}

/// Returns what the registries say about an address. Outside of their entries,
/// IPv4 is global except multicast, and IPv6 only in the global unicast space.
fn expected(address: IpAddr, entries: &[(IpNet, bool)]) -> bool {
    let multicast: IpNet = "224.0.0.0/4".parse().expect("a network");
    let unicast: IpNet = "2000::/3".parse().expect("a network");
    let mapped: IpNet = "::ffff:0:0/96".parse().expect("a network");
    let translated: IpNet = "64:ff9b::/96".parse().expect("a network");
    if let (IpAddr::V6(v6), true) = (
        address,
        mapped.contains(&address) || translated.contains(&address),
    ) {
        let [.., a, b, c, d] = v6.octets();
        return is_global(IpAddr::from([a, b, c, d]));
    }
    let holding = entries.iter().filter(|(block, _)| block.contains(&address));
    match holding.max_by_key(|(block, _)| block.prefix_len()) {
        Some((_, reachable)) => *reachable,
        None if address.is_ipv4() => !multicast.contains(&address),
        None => unicast.contains(&address),
    }
}

#[test]
fn the_ends_and_neighbours_of_every_registry_entry_have_their_class() {
    let v4 = entries(include_str!("iana-ipv4.txt"));
    let v6 = entries(include_str!("iana-ipv6.txt"));
    assert_eq!((v4.len(), v6.len()), (26, 25));
    for entries in [v4, v6] {
        for (block, _) in &entries {
            let (first, last) = (block.network(), block.broadcast());
            let around = [
                neighbour(first, -1),
                Some(first),
                neighbour(first, 1),
                neighbour(last, -1),
                Some(last),
                neighbour(last, 1),
            ];
            for address in around.into_iter().flatten() {
                let expected = expected(address, &entries);
                assert_eq!(
                    is_global(address),
                    expected,
                    "{address}, at an end of {block}"
                );
            }
        }
    }
}

#[test]
fn addresses_that_attackers_try_are_not_global() {
    let all = "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.254 10.0.0.1 100.100.100.200 168.63.129.16 \
        169.254.169.254 169.254.170.2 172.31.255.255 192.0.0.192 192.168.1.1 198.19.0.1 \
        224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::10.0.0.1 \
        ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 \
        64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::8.8.8.8 \
        64:ff9b:0:0:0:1:: 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:808:808::1 \
        2001:0:4136:e378:8000:63bf:3fff:fdd2 fd00:ec2::254 fc00::1 fe80::1 fec0::1 \
        ff02::1 100::1 2001:db8::1 3fff:fff::1 4000::1";
    for text in all.split_whitespace() {
        let address: IpAddr = text.parse().expect(text);
        assert!(!is_global(address), "{text}");
    }
}

#[test]
fn addresses_of_receivers_are_global() {
    let all = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 \
        172.32.0.0 168.63.129.15 168.63.129.17 223.255.255.255 93.184.216.34 \
        2606:4700:4700::1111 2400:3200::1 2a00:1450:4001::1 ::ffff:8.8.8.8 \
        64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888";
    for text in all.split_whitespace() {
        let address: IpAddr = text.parse().expect(text);
        assert!(is_global(address), "{text}");
    }
}
