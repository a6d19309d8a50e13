/* Reports uncaught errors on the page. A classic script, so that it also runs in browsers without modules. */
(function () {
  "use strict";
  function showError(text) {
    function show() {
      var box = document.getElementById("problem");
      var loading = document.getElementById("loading");
      if (!box) return;
      box.firstElementChild.textContent = text;
      box.hidden = false;
      if (loading) loading.hidden = true;
    }
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show);
    else show();
  }
  window.emodetShowError = showError;
  if (!("noModule" in document.createElement("script")) || typeof WebAssembly !== "object") {
    showError("This browser is too old for this page. Use a current Firefox, Chrome, Edge or Safari.");
    return;
  }
  var unexpected = "An unexpected error occurred. Reload the page; if the error occurs again, use another browser.";
  window.addEventListener("error", function (event) {
    if (location.protocol === "file:") {
      showError("Browsers do not load this page from a file. Serve its folder, for example with “python -m http.server”, and open the address that it prints.");
    } else if (event.target instanceof HTMLScriptElement) {
      showError("A script of this page could not be loaded. Check that the page's server is running, then reload the page.");
    } else if (!(event.target instanceof HTMLElement)) {
      showError(unexpected);
    }
  }, true);
  window.addEventListener("unhandledrejection", function () { showError(unexpected); });
})();
