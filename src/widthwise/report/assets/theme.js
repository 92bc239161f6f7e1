try {
  const theme = localStorage.getItem("widthwise-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (blocked) { /* no storage: the theme follows the system */ }
