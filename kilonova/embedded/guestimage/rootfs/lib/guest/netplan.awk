# Turns flattened network_data.json into lines: mtu MAC N | dhcp MAC | addr MAC IP/PREFIX | route MAC NET/PREFIX GATEWAY | dns IP
function bits(mask,   n, i, parts, total, digit) {
    if (mask ~ /^[0-9]+$/) return mask
    total = 0
    if (index(mask, ":")) {
        for (i = 1; i <= length(mask); i++) {
            digit = index("8ce0f", substr(tolower(mask), i, 1))
            if (digit == 5) total += 4
            else if (digit >= 1 && digit <= 3) total += digit
        }
        return total
    }
    n = split(mask, parts, ".")
    for (i = 1; i <= n; i++) for (digit = parts[i]; digit > 0; digit = (digit * 2) % 256) total++
    return total
}
BEGIN { FS = "\t" }
{
    n = split($1, p, ".")
    data[$1] = $2
    if (p[1] == "links" && p[2] + 1 > links) links = p[2] + 1
    if (p[1] == "networks") {
        if (p[2] + 1 > networks) networks = p[2] + 1
        if (p[3] == "routes" && p[4] + 1 > routes[p[2]]) routes[p[2]] = p[4] + 1
    }
    if (p[1] == "services" && p[3] == "address") print "dns " $2
}
END {
    for (i = 0; i < links; i++) {
        at = "links." i "."
        mac[data[at "id"]] = tolower(data[at "ethernet_mac_address"])
        if (data[at "mtu"] ~ /^[0-9]+$/) print "mtu " mac[data[at "id"]] " " data[at "mtu"]
    }
    for (i = 0; i < networks; i++) {
        at = "networks." i "."
        type = data[at "type"]
        m = mac[data[at "link"]]
        if (m == "") continue
        if (type == "ipv4_dhcp") print "dhcp " m
        if (type != "ipv4" && type != "ipv6") continue
        ip = data[at "ip_address"]
        if (!index(ip, "/")) ip = ip "/" bits(data[at "netmask"])
        print "addr " m " " ip
        for (j = 0; j < routes[i]; j++) {
            r = at "routes." j "."
            print "route " m " " data[r "network"] "/" bits(data[r "netmask"]) " " data[r "gateway"]
        }
    }
}
