<?php
// Figure 11: the response to a posted chat, read back from the repository.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

open_session();
$account = account('Post.php');
$id = filter_input(INPUT_GET, 'id', FILTER_VALIDATE_INT) ?: 0;
$message = (new Repository())->message($id, $account);
if ($message === null) {
    throw new Refusal('There is no such chat of yours.', 404);
}
page('CLIENT-SERVER CHAT ROOM', '<p class="done" role="status">Your chat has been posted successfully.</p>
<dl><div><dt>User</dt><dd>' . e($message['sender']) . '</dd></div>
<div><dt>Time</dt><dd>' . e(substr($message['posted'], 0, 19)) . ' UTC</dd></div>
<div><dt>Content</dt><dd id="posted">' . e($message['content']) . '</dd></div></dl>
' . footer());
