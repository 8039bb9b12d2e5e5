#!/usr/bin/env python3
"""What the model (slots.py beside this file) does in given trials, as text for the test of our own group against it.

`dump.py trials FIRST COUNT` takes the model's own trials, `dump.py wild FIRST COUNT` trials of this file, which hold what those leave out:
stale markers, repeats, clocks that jump, names in plenty, switches at any time. slots.py is used as it is; its Group is watched from outside.

Lines: `seed N NAME` begins a trial; `s REPLICA AT SERIES,TIME[,s] ...` is an entry of samples (s: a stale marker); `t AT N` are N ticks
from AT on, 250 ms apart; `w FROM TO AT` is a switch; `e SERIES,TIME,REPLICA,LATE ...` says what the event before it let through (for ticks:
the last of them; the others let nothing through)."""
import os, random, sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slots

STEP = 250

class Watched(slots.Group):
    """A model's group that writes down each call from outside, and what it let through."""
    made = None

    def __init__(self):
        super().__init__()
        self.lines, self.inside, self.ticks = [], False, None
        Watched.made = self

    def call(self, line, method, *args):
        if self.inside: return method(*args)
        self.inside, before = True, len(self.emitted)
        method(*args)
        self.inside = False
        if line is None:                                       # a tick: gathered with those before it
            if self.ticks and args[0] == self.ticks[0] + self.ticks[1] * STEP: self.ticks[1] += 1
            else: self.flush(); self.ticks = [args[0], 1]
        else: self.flush(); self.lines.append(line)
        if len(self.emitted) > before:
            self.flush()
            self.lines.append("e " + " ".join(f"{k},{t},{r},{int(late)}" for k, t, r, late in self.emitted[before:]))

    def flush(self):
        if self.ticks: self.lines.append(f"t {self.ticks[0]} {self.ticks[1]}"); self.ticks = None

    def samples(self, replica, at, batch):
        self.call(f"s {replica} {at} " + " ".join(f"{s[0]},{s[1]}" + (",s" if s[2:] else "") for s in batch), super().samples, replica, at, batch)

    def tick(self, at): self.call(None, super().tick, at)

    def switch(self, frm, to, at): self.call(f"w {frm} {to} {at}", super().switch, frm, to, at)

def wild(seed):
    """Several replicas, most of them bad."""
    r = random.Random(seed); g = slots.Group(); names = "abcdefgh"[:r.randrange(1, 9)]; start = r.choice([10**6, 1_790_000_000_000])
    every = {x: r.choice([1000, 5000, 15000, 15000, 60000]) for x in range(8)}; at = start; end = start + r.randrange(200, 1500) * 1000
    lag = {n: r.choice([0, 0, 3000, 20_000]) for n in names}; bad = {n: r.random() * r.choice([0, 0.1, 0.6]) for n in names}
    jump = dict.fromkeys(names, 0); nxt = {(n, x): start + r.randrange(e) for n in names for x, e in every.items()}; sent = []; seen = set()
    while at < end:
        at += r.choice([0, 10, 250, 1000, 7000])
        n = r.choice(names); what = r.random()
        if what < 0.02 and n in seen and n != g.leader: g.switch(r.choice([g.leader, n]), n, at); continue    # from n: void
        if what < 0.03: jump[n] = r.choice([0, 0, 5000, 11_000, 400_000, -70_000])
        if what < 0.04: x = r.randrange(8); every[x] = r.choice([1000, 5000, 15000, 20_000, 60000])
        if what < 0.06 and sent: m, b = r.choice(sent[-40:]); g.samples(m, at, b); continue
        if what < 0.20: g.tick(at - r.choice([0, 0, 3000])); continue
        batch = []
        for x, e in every.items():
            while nxt[n, x] + lag[n] <= at and len(batch) < 60:
                t = nxt[n, x] + r.randrange(-e // 100, e // 100 + 1) + jump[n]; nxt[n, x] += e
                if r.random() < bad[n]: continue
                batch.append((x, t, True) if r.random() < 0.03 else (x, t))
                if r.random() < 0.02: batch.append((x, t - r.randrange(5 * e)))
        if r.random() < 0.1: r.shuffle(batch)
        if r.random() < bad[n] / 2: nxt.update({(n, x): nxt[n, x] + r.randrange(10) * e for x, e in every.items()})
        if batch: g.samples(n, at, batch); sent.append((n, batch)); seen.add(n)
    for t in range(at, at + 130_000, STEP): g.tick(t)
    return "wild"

if __name__ == "__main__":
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]); slots.Group = Watched
    for seed in range(first, first + count):
        name = wild(seed) if kind == "wild" else slots.trial(seed)[0]
        Watched.made.flush()
        print(f"seed {seed} {name}"); print("\n".join(Watched.made.lines))
