# Shared by the scripts beside it: where things are built, and how missing system packages get in. Sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export SLUICE_KAFKA_LIBS=${SLUICE_KAFKA_LIBS:-$cache/kafka-4.1.1/libs}
export SLUICE_DRUID_LIBS=${SLUICE_DRUID_LIBS:-$cache/druid-33.0.0/libs}
cores=$(nproc)
# Debian keeps servers such as haproxy where only root looks.
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf '%s\n' "$@" >&2; exit 1; }
allowed_missing() { case ",${SLUICE_ALLOW_MISSING:-}," in *",$1,"*) true ;; *) false ;; esac; }

# What building needs. A line: what shows that it is there, Debian's package, RHEL's package.
# The compilers are for RocksDB, librdkafka and OpenSSL (Configure is Perl); libclang for RocksDB's bindings; protoc for raft's messages.
build_needs='
command:g++               g++                      gcc-c++
command:make              make                     make
command:perl              perl                     perl
perl:IPC::Cmd             perl                     perl-IPC-Cmd
perl:FindBin              perl                     perl-FindBin
perl:Time::Piece          perl                     perl-Time-Piece
command:clang             clang                    clang
libclang                  libclang-dev             clang-devel
command:protoc            protobuf-compiler        protobuf-compiler
'
# What the tests run beside sluice, by the name that SLUICE_ALLOW_MISSING knows.
test_needs='
kafka         command:java                     default-jre-headless       java-17-openjdk-headless
kafka         command:mvn                      maven                      maven
druid         command:java                     default-jre-headless       java-17-openjdk-headless
druid         command:mvn                      maven                      maven
prometheus    command:prometheus               prometheus                 golang-github-prometheus
node-exporter command:prometheus-node-exporter|command:node_exporter prometheus-node-exporter node-exporter
vmagent       command:vmagent                  victoria-metrics         victoria-metrics
vmalert       command:vmalert                  victoria-metrics         victoria-metrics
victoria-metrics command:victoria-metrics      victoria-metrics         victoria-metrics
prometheus-blackbox-exporter command:prometheus-blackbox-exporter|command:blackbox_exporter prometheus-blackbox-exporter golang-github-prometheus-blackbox-exporter
prometheus-pushgateway command:prometheus-pushgateway prometheus-pushgateway golang-github-prometheus-pushgateway
haproxy       command:haproxy                  haproxy                  haproxy
faketime      command:faketime                 faketime                 libfaketime
kcat          command:kcat                     kcat                       kcat
jq            command:jq                       jq                         jq
python3       command:python3                  python3                    python3
curl          command:curl                     curl                       curl
chromium      command:chromium                 chromium                   chromium
amtool        command:amtool                   prometheus-alertmanager    alertmanager
strace        command:strace                   strace                     strace
tmpfs         command:unshare                  util-linux                 util-linux
packages      command:rpmbuild                 rpm                        rpm-build
packages      command:rpm2cpio                 rpm2cpio                   rpm
packages      command:cpio                     cpio                       cpio
packages      command:rpmlint                  rpmlint                    rpmlint
packages      command:lintian                  lintian                    lintian
packages      command:dpkg-deb                 dpkg                       dpkg
packages      command:systemd-analyze          systemd                    systemd
packages      command:strip                    binutils                   binutils
'

present() { # command:x | perl:X | libclang, or several with | between
  local one
  for one in ${1//|/ }; do
    case $one in
      command:*) command -v "${one#command:}" >/dev/null && return ;;
      perl:*) perl -e "use ${one#perl:}" 2>/dev/null && return ;;
      libclang) [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null \
        || compgen -G '/usr/lib*/libclang.so*' >/dev/null || compgen -G '/usr/lib*/*/libclang*.so*' >/dev/null && return ;;
    esac
  done
  return 1
}

# install_missing WHY TIME PACKAGE...: says what it will do, does it, or prints the command and stops.
install_missing() {
  local why=$1 time=$2 run=(); shift 2
  [ $# -gt 0 ] || return 0
  local packages; packages=$(printf '%s\n' "$@" | sort -u | tr '\n' ' '); packages=${packages% }
  local install
  case $family in
    debian) install="apt-get update && apt-get install -y --no-install-recommends $packages" ;;
    rhel) install="dnf install -y $packages" ;;
    *) die "$why needs packages that are not here, and this system is neither Debian-like (apt-get) nor RHEL-like (dnf)." \
         "Install what these Debian packages hold, then come back: $packages" ;;
  esac
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then run=(sudo)
    else die "$why needs system packages, and this user may not install them. Run as root, then come back:" "  $install"; fi
  fi
  say "$why: installing $packages ($time)"
  # A server that a package brings is for the tests, which start their own on free ports: the one of the system stays off.
  if [ "$family" = debian ] && command -v systemctl >/dev/null; then
    for unit in prometheus prometheus-node-exporter prometheus-blackbox-exporter prometheus-pushgateway prometheus-alertmanager victoria-metrics haproxy; do
      case " $packages " in *" $unit "*) "${run[@]}" systemctl mask "$unit" >&2 || true
        say "  $unit.service stays off (systemctl unmask $unit gives it back)" ;; esac
    done
  fi
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive bash -c "$install" >&2 || die "installing failed; the command was:" "  $install"
}

package_of() { if [ "$family" = rhel ]; then echo "$2"; else echo "$1"; fi; }

need_build_tools() {
  command -v cargo >/dev/null || die "sluice is built with Rust $rust or newer, and there is no cargo on this machine." \
    "Install it (https://rustup.rs):  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
  local have; have=$(cargo --version | cut -d' ' -f2)
  [ "$(printf '%s\n' "$rust" "$have" | sort -V | head -1)" = "$rust" ] || die "sluice needs Rust $rust or newer; this is $have. Run: rustup update"
  local missing=() check deb rpm
  while read -r check deb rpm; do
    [ -z "$check" ] || present "$check" || missing+=("$(package_of "$deb" "$rpm")")
  done <<<"$build_needs"
  install_missing "Building" "1-2 minutes" "${missing[@]}"
}

need_peers() {
  local missing=() peer check deb rpm
  while read -r peer check deb rpm; do
    [ -z "$peer" ] || allowed_missing "$peer" || present "$check" || missing+=("$(package_of "$deb" "$rpm")")
  done <<<"$test_needs"
  install_missing "Testing" "1-3 minutes" "${missing[@]}"
  allowed_missing kafka || need_jars kafka Kafka "$SLUICE_KAFKA_LIBS" "43 MB, about 10 seconds"
  allowed_missing druid || need_jars druid Druid "$SLUICE_DRUID_LIBS" "192 MB, about 20 seconds"
}

# need_jars PEER NAME DIRECTORY HOW_MUCH: a peer's jars from Maven Central. No network: the tests that need it fail and say so.
need_jars() {
  [ -e "$3/complete" ] && return
  local dir; dir=$(dirname "$3")
  say "Testing: fetching Apache $2 from Maven Central into $dir ($4)"
  mkdir -p "$dir"; cp "tests/support/$1-pom.xml" "$dir/pom.xml"
  (cd "$dir" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$3" >&2) \
    && touch "$3/complete" || say "$2 did not come; tests that need it will fail (SLUICE_ALLOW_MISSING=$1 leaves them out)"
}

# first_build WHAT: says how long the first one takes, since it compiles RocksDB, librdkafka and OpenSSL.
first_build() {
  [ -d "$CARGO_TARGET_DIR/debug/deps" ] || say "$1 for the first time: about $((40 / cores + 1)) minutes on $cores cores, into $CARGO_TARGET_DIR"
}

rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if command -v apt-get >/dev/null; then family=debian; elif command -v dnf >/dev/null; then family=rhel; else family=other; fi
