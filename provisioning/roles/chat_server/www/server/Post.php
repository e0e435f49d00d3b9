<?php
// Figure 10: composing; what is posted is stored, or the form comes back with the error.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

/** The text to store; refused if it is none. */
function content(): string
{
    $content = str_replace(["\r\n", "\r"], "\n", field('content'));
    if (preg_match('/^\s*$/u', $content) === 1) {
        throw new Refusal('There is nothing to post: the chat is empty.', 422);
    }
    if (mb_strlen($content, 'UTF-8') > MAX_CHARACTERS) {
        throw new Refusal('The chat is too long: ' . mb_strlen($content, 'UTF-8')
            . ' characters. ' . limit(), 422);
    }
    if (preg_match('/[\x00-\x08\x0B-\x1F\x7F]/', $content) === 1) {
        throw new Refusal('The chat has control characters in it.', 422);
    }
    return $content;
}

/** The form's own number, as 16 bytes. */
function nonce(): string
{
    $nonce = field('nonce');
    if (preg_match('/^[0-9a-f]{32}$/D', $nonce) !== 1) {
        throw new Refusal('The form is not one of ours. Open it again.', 422);
    }
    return hex2bin($nonce);
}

open_session();
$account = account('Post.php');
$error = '';
$status = 200;
$nonce = bin2hex(random_bytes(16));
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        check_post();
        $id = (new Repository())->store($account, content(), nonce());
        go("Posted.php?id=$id");
    } catch (Refusal $refusal) {
        $error = $refusal->getMessage();
        $status = $refusal->getCode();
    } catch (PDOException $exception) {
        error_log((string) $exception);
        $error = 'The chat repository does not answer: nothing was stored. Your text is kept'
            . ' below; post it again in a moment.';
        $status = 503;
        $nonce = field('nonce'); // if it was stored after all, posting again finds it
    }
}
$text = $_POST['content'] ?? '';
$text = is_string($text) && mb_check_encoding($text, 'UTF-8') ? $text : '';
$alert = $error === '' ? '' : '<p class="error" role="alert">' . e($error) . '</p>';
page('WELCOME TO THE CLIENT-SERVER CHAT ROOM', '<form method="post" action="Post.php">
' . $alert . token() . '<input type="hidden" name="nonce" value="' . e($nonce) . '">
<dl><div><dt>User</dt><dd>' . e($account) . '</dd></div><div><dt>Time</dt><dd>' . gmdate('Y-m-d')
. '</dd></div></dl>
<label for="content">Content</label>
<textarea id="content" name="content" rows="5" maxlength="' . MAX_CHARACTERS . '" required autofocus>
' . e($text) . '</textarea>
<button>&lt;&lt;Post...&gt;&gt;</button>
</form>
' . footer(), $status);
