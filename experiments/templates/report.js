(function () {
  "use strict";
  var holder = document.getElementById("data");
  var view = document.getElementById("view");
  if (!holder || !view) { return; }
  var data = JSON.parse(holder.textContent);
  var spacer = document.getElementById("spacer");
  var body = document.getElementById("rows");
  var filter = document.getElementById("filter");
  var count = document.getElementById("count");
  var detail = document.getElementById("detail");
  var buttons = Array.prototype.slice.call(document.querySelectorAll("button[data-list]"));
  // Browsers draw no element of more than some ten million pixels: beyond, a pixel is several rows.
  var ROW = 20, TALLEST = 8000000, SLICE = 40000, MADE = 0xFFFFFFFF;
  var FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"];
  var TYPES = { i4: Int32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
  var lists = [], current = 0, list = null, found = null, top = 0, selected = -1, job = 0, printing = false;

  function unpack(packed) {
    var text = atob(packed), bytes = new Uint8Array(text.length);
    for (var i = 0; i < text.length; i++) { bytes[i] = text.charCodeAt(i); }
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }
  function open(raw) {
    return unpack(raw.packed).then(function (buffer) {
      var at = 0, made = { name: raw.name, total: raw.total, rows: raw.rows, flows: raw.flows || [], words: raw.words || {} };
      raw.columns.forEach(function (column) {
        made[column[0]] = new TYPES[column[1]](buffer, at, raw.rows);
        at += made[column[0]].byteLength;
      });
      var tables = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at)));
      Object.keys(tables).forEach(function (name) { made[name] = tables[name]; });
      if (made.seq) { sum(made); }
      return made;
    });
  }
  // Sequence numbers are stored as what they differ from the number that was to be expected.
  function sum(made) {
    var next = new Map(), last = new Map();
    for (var i = 0; i < made.rows; i++) {
      var key = made.flow[i] * 2 + made.side[i];
      var seq = ((next.get(key) || 0) + made.seq[i]) >>> 0;
      var ack = ((last.get(key) || 0) + made.ack[i]) >>> 0;
      made.seq[i] = seq;
      made.ack[i] = ack;
      next.set(key, seq + made.payload[i]);
      last.set(key, ack);
    }
  }
  function words(bits) {
    return Object.keys(list.words).filter(function (bit) { return bits & bit; })
      .map(function (bit) { return "[" + list.words[bit] + "] "; }).join("");
  }
  function flags(bits) {
    return FLAGS.filter(function (_, bit) { return bits >> bit & 1; }).join(", ") || "none";
  }
  function info(i) {
    if (list.info[i] !== MADE) { return list.infos[list.info[i]]; }
    var ports = list.from[i] + " \u2192 " + list.to[i];
    if (!list.tcp[i]) { return words(list.status[i]) + ports + " Len=" + list.payload[i]; }
    var bits = list.tcp[i];
    return words(list.status[i]) + ports + " [" + flags(bits) + "] Seq=" + (list.seq[i] >>> 0) +
      (bits & 16 ? " Ack=" + (list.ack[i] >>> 0) : "") + " Win=" + list.window[i] + " Len=" + list.payload[i];
  }
  function stream(i) {
    var flow = list.flow ? list.flows[list.flow[i]] : undefined;
    return flow === undefined ? "" : flow;
  }
  function row(i) {
    return [String(i + 1), list.seconds[i] + "." + ("00000" + list.micros[i]).slice(-6), list.names[list.source[i]],
      list.names[list.destination[i]], list.protocols[list.protocol[i]], String(list.length[i]), info(i)];
  }
  function tint(protocol) {
    var key = Object.keys(data.tints).find(function (start) { return protocol.indexOf(start) === 0; });
    return key ? data.tints[key] : "";
  }
  function size() { return found ? found.length : list.rows; }
  function at(place) { return found ? found[place] : place; }
  function room() { return Math.max(Math.floor((view.clientHeight - 30) / ROW), 1); }
  function tall() { return Math.min(size() * ROW + 40, TALLEST); }
  function furthest() { return Math.max(size() - room(), 0); }

  function draw() {
    if (!list) { return; }
    var number = printing ? 40 : room() + 1, lines = [];
    top = Math.max(Math.min(top, furthest()), 0);
    for (var place = top; place < Math.min(top + number, size()); place++) {
      var i = at(place), values = row(i), line = document.createElement("tr");
      line.className = tint(values[4]) + (i === selected ? " selected" : "");
      line.dataset.row = i;
      line.setAttribute("aria-rowindex", place + 2);
      if (i === selected) { line.setAttribute("aria-selected", "true"); }
      values.forEach(function (value) {
        var cell = document.createElement("td");
        cell.textContent = value;
        line.appendChild(cell);
      });
      lines.push(line);
    }
    body.replaceChildren.apply(body, lines);
  }
  function place() {
    spacer.style.height = tall() + "px";
    var way = tall() - view.clientHeight;
    view.scrollTop = furthest() ? Math.round(top / furthest() * way) : 0;
    draw();
  }
  function go(to) { top = Math.max(Math.min(to, furthest()), 0); place(); }
  function say() {
    var shown = size().toLocaleString("en").replace(/,/g, "\u202f"), total = list.total.toLocaleString("en").replace(/,/g, "\u202f");
    var part = list.rows < list.total ? "; the first " + list.rows.toLocaleString("en").replace(/,/g, "\u202f") + " are in this page" : "";
    count.textContent = (found ? shown + " of " + total + " packets match" : total + " packets") + part;
  }
  function search() {
    var mine = ++job, sought = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!sought.length) { found = null; top = 0; say(); place(); return; }
    var exact = sought.filter(function (word) { return /^(tcp|udp):\d+$/.test(word); });
    var parts = sought.filter(function (word) { return exact.indexOf(word) < 0; });
    var hits = [], i = 0;
    (function slice() {
      if (mine !== job) { return; }
      for (var end = Math.min(i + SLICE, list.rows); i < end; i++) {
        if (exact.length && exact.indexOf(stream(i)) < 0) { continue; }
        if (parts.length) {
          var text = row(i).join(" ").toLowerCase();
          if (!parts.every(function (word) { return text.indexOf(word) >= 0; })) { continue; }
        }
        hits.push(i);
      }
      found = hits;
      if (i < list.rows) {
        count.textContent = "searching, " + Math.floor(100 * i / list.rows) + " %";
        setTimeout(slice, 0);
        return;
      }
      top = 0; say(); place();
    })();
  }
  function select(i) {
    selected = i;
    var values = row(i), name = stream(i);
    detail.replaceChildren(document.createTextNode("Frame " + values[0] + ": " + values[2] + " \u2192 " + values[3] + ", " + values[6] + " "));
    if (name) {
      var link = document.createElement("a");
      link.href = "#filter-" + current + "-" + name;
      link.textContent = "all of " + name;
      detail.appendChild(link);
    }
    draw();
  }
  function where(i) {
    if (!found) { return i; }
    var low = 0, high = found.length;
    while (low < high) { var middle = (low + high) >> 1; if (found[middle] < i) { low = middle + 1; } else { high = middle; } }
    return found[low] === i ? low : -1;
  }
  function show(i) {
    if (where(i) < 0) { filter.value = ""; job++; found = null; say(); }
    var there = where(i);
    if (there < top || there >= top + room() - 1) { go(there - Math.floor(room() / 2)); }
    select(i);
  }
  function move(by) {
    if (!size()) { return; }
    var from = selected < 0 ? -1 : where(selected);
    var to = Math.max(Math.min((from < 0 ? top - (by > 0 ? 1 : 0) : from) + by, size() - 1), 0);
    if (to < top) { go(to); } else if (to >= top + room()) { go(to - room() + 1); }
    select(at(to));
  }
  function choose(index) {
    if (!data.lists[index]) { return Promise.reject(new Error("no such list")); }
    current = index;
    buttons.forEach(function (button) { button.setAttribute("aria-pressed", String(+button.dataset.list === index)); });
    lists[index] = lists[index] || open(data.lists[index]);
    return lists[index].then(function (made) {
      if (current !== index) { return; }
      view.classList.toggle("long", made.names.some(function (name) { return name.length > 17; }));
      if (list !== made) { list = made; found = null; selected = -1; top = 0; detail.textContent = ""; }
    });
  }
  // #frame-LIST-NUMBER and #filter-LIST-WORDS lead into the packet list, #stream-… opens a stream.
  function follow() {
    var hash = decodeURIComponent(location.hash), match = /^#(frame|filter)-(\d+)-(.+)$/.exec(hash);
    if (!match) {
      var target = hash.length > 1 ? document.getElementById(hash.slice(1)) : null;
      if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
      return;
    }
    choose(+match[2]).then(function () {
      document.getElementById("packets").scrollIntoView();
      view.focus({ preventScroll: true });
      if (match[1] === "filter") { filter.value = match[3]; search(); return; }
      var i = +match[3] - 1;
      if (i >= list.rows) { detail.textContent = "Frame " + match[3] + " is not in this page."; return; }
      show(i);
    }, function () {});
  }
  view.addEventListener("scroll", function () {
    var way = tall() - view.clientHeight, expected = furthest() ? Math.round(top / furthest() * way) : 0;
    if (!list || Math.abs(view.scrollTop - expected) < 2) { return; }
    top = way > 0 ? Math.round(view.scrollTop / way * furthest()) : 0;
    draw();
  });
  view.addEventListener("wheel", function (event) {
    if (!list || size() * ROW + 40 <= TALLEST || !event.deltaY || event.ctrlKey) { return; }
    event.preventDefault();
    go(top + (event.deltaY > 0 ? 1 : -1) * Math.max(Math.round(Math.abs(event.deltaY) / ROW), 1));
  }, { passive: false });
  view.addEventListener("keydown", function (event) {
    var steps = { ArrowDown: 1, ArrowUp: -1, PageDown: room(), PageUp: -room(), Home: -Infinity, End: Infinity };
    if (!list || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) { return; }
    event.preventDefault();
    move(Math.max(Math.min(steps[event.key], size()), -size()));
  });
  body.addEventListener("click", function (event) {
    var line = event.target.closest("tr");
    if (line && line.dataset.row !== undefined) { select(+line.dataset.row); }
  });
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      choose(+button.dataset.list).then(function () { say(); search(); });
    });
  });
  var waiting = 0;
  filter.addEventListener("input", function () { clearTimeout(waiting); waiting = setTimeout(search, list && list.rows > SLICE ? 250 : 0); });
  window.addEventListener("resize", place);
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", function () { printing = true; draw(); });
  window.addEventListener("afterprint", function () { printing = false; draw(); });
  document.addEventListener("click", function (event) {
    var link = event.target.closest ? event.target.closest("a[href^='#f']") : null;
    if (link && link.getAttribute("href") === location.hash) { follow(); }
  });
  if (!window.DecompressionStream) { count.textContent += "; this browser is too old to show the others"; return; }
  choose(0).then(function () {
    view.classList.add("live");
    say(); place(); follow();
    document.documentElement.setAttribute("data-ready", "yes");
  });
})();
(function () {
  "use strict";
  // What a link leads to may lie in something that is folded; not every browser unfolds it.
  function unfold() {
    var target = document.getElementById(location.hash.slice(1)), folded = false;
    for (var part = target; part; part = part.parentElement) {
      if (part.tagName === "DETAILS" && !part.open) { part.open = folded = true; }
    }
    if (folded) { target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", unfold);
  unfold();
})();
