<?php
// Figure 9: authentication.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

open_session();
$next = $_POST['next'] ?? $_GET['next'] ?? '';
$next = in_array($next, ['Incoming.php', 'Outgoing.php'], true) ? $next : 'Post.php';
$error = '';
$name = '';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    check_post();
    $name = field('user');
    if ((new Repository())->verify($name, field('password'))) {
        session_regenerate_id(true);
        $_SESSION['account'] = $name;
        $_SESSION['token'] = bin2hex(random_bytes(16));
        go($next);
    }
    $error = '<p class="error" role="alert">The user name or the password is wrong.</p>';
}
page('WELCOME TO THE CLIENT-SERVER CHAT ROOM', '<form method="post" action="PostHome.php">
<h2>Authenticate Yourself Here ...</h2>
' . $error . token() . '<input type="hidden" name="next" value="' . e($next) . '">
<label for="user">User Name</label>
<input id="user" name="user" value="' . e($name) . '" maxlength="64" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" maxlength="72" autocomplete="current-password" required>
<button>&lt;&lt;OK...&gt;&gt;</button>
</form>
' . footer(), $error === '' ? 200 : 401);
