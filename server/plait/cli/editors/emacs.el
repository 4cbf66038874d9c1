;;; plait.el --- Review what coding agents did, in the buffers that are open  -*- lexical-binding: t; -*-

;; For Emacs 28 or newer with Eglot (in Emacs since 29; from GNU ELPA before), or with lsp-mode.
;; Save this file as plait.el in your `user-emacs-directory', and load it from init.el:
;;
;;   (load (locate-user-emacs-file "plait") t)
;;
;; With Eglot, one server serves a buffer.  M-x plait starts Plait's in a file of a git repository that Eglot does not
;; manage yet; for a mode in which you want no other server, let a hook do it:
;;
;;   (add-hook 'text-mode-hook #'plait-ensure)
;;
;; To have Plait beside the server of a language, use lsp-mode, where it is an add-on and starts by itself, or put an
;; LSP multiplexer in front of both.
;;
;;   C-c h n  C-c h p   next, previous hunk in review order, also in other files
;;   C-c h a  C-c h r   accept, reject the hunk at point (undo takes an accepted one back)
;;   C-c h A  C-c h R   accept, reject the hunks of the whole file
;;   C-c h RET          run a task
;;
;; What Emacs does not show: code lenses (Eglot has none), red and green lines in the buffer (the diff is in the hover,
;; M-x eldoc), the sessions' terminals (`plait watch' in a terminal).

;;; Code:

(require 'cl-lib)
(require 'eglot)
(require 'flymake)

(defconst plait-command '("plait" "lsp")
  "The program and arguments that start the language server.")

(defvar plait-status ""
  "What Plait's sessions are at, for the mode line.")
(put 'plait-status 'risky-local-variable nil)

(defclass plait-server (eglot-lsp-server) ()
  :documentation "Plait's language server.")

(cl-defmethod eglot-initialization-options ((_server plait-server))
  "What is asked for beyond LSP."
  '(:plait (:protocol 1 :client "eglot" :features ["status"])))

(cl-defmethod eglot-handle-notification
  ((_server plait-server) (_method (eql plait/didChangeStatus)) &key message &allow-other-keys)
  "Keep the status for the mode line."
  (setq plait-status (concat " plait: " message))
  (force-mode-line-update t))

(defvar eglot-confirm-server-initiated-edits)
(defvar eglot-confirm-server-edits)

(cl-defmethod eglot-handle-request :around
  ((server plait-server) (_method (eql workspace/applyEdit)) &key &allow-other-keys)
  "Do not ask again for what was just asked for, and tell SERVER the outcome.
Eglot itself tells it when Emacs is idle next, which would be too late."
  (prog1 (let ((eglot-confirm-server-initiated-edits nil)
               (eglot-confirm-server-edits nil))
           (cl-call-next-method))
    (plait--flush server)))

(defun plait--flush (server)
  "Tell SERVER all changes of the buffers that it serves."
  (dolist (buffer (eglot--managed-buffers server))
    (when (buffer-live-p buffer)
      (with-current-buffer buffer
        (eglot--signal-textDocument/didChange)))))

(defun plait--server ()
  "The server of this buffer; an error if it is not Plait's."
  (let ((server (eglot-current-server)))
    (unless (cl-typep server 'plait-server)
      (user-error "Plait does not serve this buffer; M-x plait starts it"))
    server))

;;;###autoload
(defun plait ()
  "Review here what agents did.
This starts Plait's language server for files of the buffer's major mode."
  (interactive)
  (unless (and buffer-file-name (locate-dominating-file buffer-file-name ".git"))
    (user-error "This buffer is no file in a git repository"))
  (when (and (eglot-current-server) (not (cl-typep (eglot-current-server) 'plait-server)))
    (user-error "Another server serves this buffer, and Eglot allows one; see the comments in plait.el"))
  (unless (eglot-current-server)
    (let ((eglot-server-programs `((,major-mode . (plait-server ,@plait-command)))))
      (apply #'eglot (eglot--guess-contact))))
  (plait-mode 1))

;;;###autoload
(defun plait-ensure ()
  "Start Plait in this buffer if no other server serves it.
It must be a file in a git repository."
  (when (and buffer-file-name (locate-dominating-file buffer-file-name ".git"))
    (let ((buffer (current-buffer)))
      (run-with-idle-timer 0 nil (lambda ()
                                   (when (buffer-live-p buffer)
                                     (with-current-buffer buffer
                                       (unless (eglot-current-server) (plait)))))))))

(defun plait--act (kind)
  "Carry out the code action of KIND at point; choose if there are several."
  (plait--flush (plait--server))
  (eglot-code-actions (line-beginning-position) (line-beginning-position) kind t))

(defun plait-accept ()
  "Accept the hunk at point."
  (interactive)
  (plait--act "quickfix.plait.accept"))

(defun plait-reject ()
  "Reject the hunk at point."
  (interactive)
  (plait--act "quickfix.plait.reject"))

(defun plait-accept-file ()
  "Accept a session's hunks of this file."
  (interactive)
  (plait--act "source.plait.acceptFile"))

(defun plait-reject-file ()
  "Reject a session's hunks of this file."
  (interactive)
  (plait--act "source.plait.rejectFile"))

(defun plait--execute (command argument)
  "What the server answers to COMMAND with ARGUMENT."
  (let ((server (plait--server)))
    (plait--flush server)
    (jsonrpc-request server :workspace/executeCommand
                     (list :command command :arguments (vector argument)))))

(defun plait--step (command)
  "Go where COMMAND leads from here."
  (let* ((here (list :uri (plist-get (eglot--TextDocumentIdentifier) :uri)
                     :line (1- (line-number-at-pos nil t))))
         (there (plait--execute command here)))
    (unless (eq (plist-get there :shown) t)
      (find-file (eglot--uri-to-path (plist-get there :uri)))
      (goto-char (point-min))
      (forward-line (plist-get (plist-get (plist-get there :range) :start) :line)))
    (unless (eglot-current-server) (plait))
    (message "Hunk %s of %s" (plist-get there :number) (plist-get there :count))))

(defun plait-next ()
  "Go to the next hunk in review order."
  (interactive)
  (plait--step "plait.hunk.next"))

(defun plait-previous ()
  "Go to the hunk before in review order."
  (interactive)
  (plait--step "plait.hunk.prev"))

(defun plait-run (text)
  "Start an agent on the task TEXT."
  (interactive "sTask: ")
  (let ((answer (plait--execute "plait.task.run" (list :text text :path buffer-file-name))))
    (message "%d session(s) started" (length (plist-get answer :sessions)))))

(defvar plait-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c h n") #'plait-next)
    (define-key map (kbd "C-c h p") #'plait-previous)
    (define-key map (kbd "C-c h a") #'plait-accept)
    (define-key map (kbd "C-c h r") #'plait-reject)
    (define-key map (kbd "C-c h A") #'plait-accept-file)
    (define-key map (kbd "C-c h R") #'plait-reject-file)
    (define-key map (kbd "C-c h RET") #'plait-run)
    map)
  "The keys of `plait-mode'.")

(define-minor-mode plait-mode
  "Keys and a mode line for reviewing the hunks of agents."
  :lighter plait-status
  :keymap plait-mode-map)

(declare-function make-lsp-client "ext:lsp-mode")
(declare-function lsp-register-client "ext:lsp-mode")
(declare-function lsp-stdio-connection "ext:lsp-mode")
(declare-function lsp-get "ext:lsp-protocol")

(with-eval-after-load 'lsp-mode
  (lsp-register-client
   (make-lsp-client
    :server-id 'plait
    :add-on? t
    :new-connection (lsp-stdio-connection (lambda () plait-command))
    :activation-fn
    (lambda (file _mode) (and file (locate-dominating-file file ".git")))
    :initialization-options
    '(:plait (:protocol 1 :client "lsp-mode" :features ["status"]))
    :notification-handlers
    (let ((handlers (make-hash-table :test #'equal)))
      (puthash "plait/didChangeStatus"
               (lambda (_workspace status)
                 (setq plait-status
                       (concat " plait: " (lsp-get status :message))))
               handlers)
      handlers))))

(provide 'plait)
;;; plait.el ends here
