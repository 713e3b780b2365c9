# shellcheck shell=bash
# $port is set by who sources this.
# shellcheck disable=SC2154
# Runs the script on stdin on the node that listens at $port; prints what it prints, and returns its exit code: 255 if the node is
# not there or goes away.
on_node() {
    local line code=255 marker='node-run: exit code '
    exec 9<> "/dev/tcp/127.0.0.1/$port" || return 255
    { cat; printf '\nexit # end of script\n'; } >&9
    while IFS= read -r line <&9; do
        case $line in
            "$marker"*) code=${line#"$marker"} ;;
            *) printf '%s\n' "$line" ;;
        esac
    done
    exec 9>&-
    return "$code"
}
