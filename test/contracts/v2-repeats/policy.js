(function (lockstep) {
"use strict";
var __defProp = Object.defineProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};

// policy:repeats.ts
var repeats_exports = {};
__export(repeats_exports, {
  repeats: () => repeats
});

// lockstep
var definePolicy = lockstep.definePolicy;

// lockstep
var derived = lockstep.derived;
var has = lockstep.has;

// policy:repeats.ts
var repeats = definePolicy({
  name: "repeats",
  module: "",
  params: { memory: 4, ending: "e" },
  prepare: (vocabulary, { ending }) => ((lockstep.keep(ending), {
    ends: vocabulary.select((text) => text.toLowerCase().endsWith(ending))
  })),
  start: () => ({ recent: [] }),
  push: ({ recent }, token, { tables, params }) => {
    if (!has(tables.ends, token)) return false;
    const fresh = !recent.includes(token);
    recent.push(token);
    if (recent.length > params.memory) recent.shift();
    return fresh;
  }
});

// policy
lockstep.install(lockstep.revive(Object.values(repeats_exports), "repeats", { "memory": 4, "ending": "e" }, []));
lockstep.keep([__defProp, __export, repeats_exports, definePolicy, derived, has, repeats]);
})
