(function () {
  "use strict";
  var holder = document.getElementById("data");
  if (!holder) { return; }
  var data = JSON.parse(holder.textContent);
  var body = document.getElementById("rows");
  var filter = document.getElementById("filter");
  var more = document.getElementById("more");
  var count = document.getElementById("count");
  var buttons = Array.prototype.slice.call(document.querySelectorAll("button[data-observer]"));
  var current = 0, shown = data.step;
  function tint(protocol) {
    var found = Object.keys(data.tints).find(function (key) { return protocol.indexOf(key) === 0; });
    return found ? data.tints[found] : "";
  }
  function draw() {
    var observer = data.observers[current];
    var words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    var rows = observer.rows.filter(function (row) {
      var text = row.join(" ").toLowerCase();
      return words.every(function (word) { return text.indexOf(word) >= 0; });
    });
    var part = rows.slice(0, shown);
    body.replaceChildren.apply(body, part.map(function (row) {
      var line = document.createElement("tr");
      line.className = tint(row[4]);
      row.forEach(function (value, index) {
        var cell = document.createElement("td");
        cell.textContent = index === 1 ? value.toFixed(6) : String(value);
        line.appendChild(cell);
      });
      return line;
    }));
    var cut = observer.total > observer.rows.length ? " (the first " + observer.rows.length + " are in this page)" : "";
    count.textContent = part.length + " shown of " + rows.length + " that match, " + observer.total + " packets" + cut;
    more.hidden = rows.length <= shown;
  }
  buttons.forEach(function (button, index) {
    button.addEventListener("click", function () {
      current = index; shown = data.step;
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      draw();
    });
  });
  filter.addEventListener("input", function () { shown = data.step; draw(); });
  more.addEventListener("click", function () { shown += 10 * data.step; draw(); });
  draw();
  document.documentElement.setAttribute("data-ready", "yes");
})();
